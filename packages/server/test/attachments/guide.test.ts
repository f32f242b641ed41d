import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { callers } from "../support/config.ts";
import { startUploadApp } from "./support.ts";

test("the commands of docs/attachments.md upload, poll and delete a file", async () => {
  const guide = await readFile(new URL("../../../../docs/attachments.md", import.meta.url), "utf8");
  const [, commands = ""] = /```sh\n(.*?)```/s.exec(guide) ?? [];
  expect(commands).toContain("http://127.0.0.1:8087/v1");
  const app = await startUploadApp();
  const dir = await mkdtemp(join(tmpdir(), "mini-chat-guide-"));
  try {
    await writeFile(join(dir, "plan.pdf"), "%PDF-1.7\n");
    const script = commands.replace("http://127.0.0.1:8087/v1", app.base);
    const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
      cwd: dir,
      env: { PATH: process.env["PATH"], TOKEN: callers.ann.token },
    });
    const [polled = "", deleted] = stdout.trim().split("\n");
    expect(JSON.parse(polled)).toMatchObject({ status: "ready", content_type: "application/pdf" });
    expect(deleted).toBe("204");
  } finally {
    await app.close();
    await rm(dir, { recursive: true, force: true });
  }
});
