import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readBuiltPage } from "../../src/page/built.ts";
import { contentSecurityPolicy, renderPage } from "../../src/page/document.ts";
import { startTestApp, type TestApp } from "../support/app.ts";

describe("the built page", () => {
  test("is not there where nothing was built", () => {
    expect(readBuiltPage(join(tmpdir(), "no-such-page"))).toBeNull();
  });

  test("is read once: a later build does not mix into it", async () => {
    const directory = mkdtempSync(join(tmpdir(), "mini-chat-page-"));
    try {
      mkdirSync(join(directory, "assets"));
      writeFileSync(join(directory, "index.html"), "<head></head>");
      writeFileSync(join(directory, "assets", "a.js"), "first".repeat(100));
      const page = readBuiltPage(directory);
      writeFileSync(join(directory, "assets", "a.js"), "second");
      const asset = page?.assets.get("a.js");
      expect(asset?.body.toString()).toBe("first".repeat(100));
      expect(gunzipSync((await asset?.gzipped()) ?? Buffer.alloc(0)).toString()).toBe("first".repeat(100));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("a title is text, whatever it holds", () => {
    const settings = { title: `</title><script>"&$&`, auth: "static", hosts: [] } as const;
    const html = renderPage("<head><title>x</title></head>", settings, "n");
    expect(html).not.toContain("<script>");
    expect(html).toContain("&#60;/title&#62;&#60;script&#62;&#34;&#38;$&#38;");
  });

  test.each([
    [[], "frame-ancestors 'none'"],
    [["self", "https://a.example"], "frame-ancestors 'self' https://a.example"],
  ])("the policy lets %j frame it", (ancestors, expected) => {
    expect(contentSecurityPolicy(ancestors, "n")).toMatch(new RegExp(`${expected}$`));
  });
});

describe("served", () => {
  let app: TestApp;
  let origin: string;

  beforeAll(async () => {
    app = await startTestApp({ config: { url_prefix: "/cf/chat", page: { title: "Help desk" } } });
    origin = new URL(app.base).origin;
  });

  afterAll(() => app?.close());

  test("the document is never kept, its policy allows nothing inline, its nonce is new each time", async () => {
    const answers = await Promise.all([fetch(`${origin}/cf/chat/`), fetch(`${origin}/cf/chat/`)]);
    const policies = answers.map(({ headers }) => headers.get("content-security-policy") ?? "");
    for (const { status, headers } of answers) {
      expect(status).toBe(200);
      expect(headers.get("cache-control")).toBe("no-store");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
    }
    expect(policies[0]).not.toContain("unsafe");
    expect(policies[0]).not.toBe(policies[1]);
    const html = await answers[0]?.text();
    expect(html).toContain("<title>Help desk</title>");
    expect(html).not.toMatch(/<script(?![^>]*src=)|<style|\sstyle=|\son\w+=/);
  });

  test("its files are kept for ever, and are sent compressed", async () => {
    const html = await (await fetch(`${origin}/cf/chat/`)).text();
    const names = [...html.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map((match) => match[1]);
    expect(names.length).toBeGreaterThan(1);
    for (const name of names) {
      const { status, headers } = await fetch(`${origin}/cf/chat/${name}`);
      expect(status).toBe(200);
      expect(headers.get("cache-control")).toContain("immutable");
      expect(headers.get("content-encoding")).toBe("gzip");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
    }
  });

  test("without its slash it leads to the page", async () => {
    const { status, headers } = await fetch(`${origin}/cf/chat`, { redirect: "manual" });
    expect([status, headers.get("location")]).toEqual([308, "/cf/chat/"]);
  });

  test.each([
    "/",
    "/cf/",
    "/cf/chat/v1/nothing",
    "/cf/chat/assets/nothing.js",
    "/cf/chat/assets/..%2findex.html",
  ])("%s is not a part of it", async (path) => {
    const { status, headers } = await fetch(`${origin}${path}`);
    expect(status).toBe(404);
    expect(headers.get("content-type")).toContain("problem+json");
  });
});

test("switched off, there is no page", async () => {
  const app = await startTestApp({ config: { server: { web_enabled: false } } });
  try {
    expect((await fetch(`${new URL(app.base).origin}/`)).status).toBe(404);
  } finally {
    await app.close();
  }
});
