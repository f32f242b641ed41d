import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build, type Metafile } from "esbuild";
import { expect, test } from "vitest";

const entry = fileURLToPath(new URL("../src/index.ts", import.meta.url));

const bundle = async (): Promise<{ readonly bytes: Uint8Array; readonly inputs: Metafile["inputs"] }> => {
  const { outputFiles, metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
    metafile: true,
  });
  return { bytes: outputFiles[0]?.contents ?? new Uint8Array(), inputs: metafile.inputs };
};

test("the client takes at most 10 KiB in a page, minified and compressed, with nothing of others in it", async () => {
  const { bytes, inputs } = await bundle();
  expect(bytes.length).toBeGreaterThan(1_000);
  expect(gzipSync(bytes).length).toBeLessThanOrEqual(10_240);
  expect(Object.keys(inputs).filter((input) => !input.includes("client/src/"))).toEqual([]);
});

test("the bundle runs where there is nothing of Node", async () => {
  const { bytes } = await bundle();
  expect(new TextDecoder().decode(bytes)).not.toMatch(/\bprocess\.|\bBuffer\b|"node:/);
});

test("the sources compile where there is a DOM and no Node", () => {
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  const compiler = path("../../../node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [compiler, "--noEmit", "-p", path("./browser.tsconfig.json")]);
});
