import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { simulatorFor } from "./support.ts";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

const start = (...args: readonly string[]) => {
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  return child;
};

test.each(["SIGTERM", "SIGINT"] as const)(
  "prints its URL, answers, and stops cleanly at %s",
  async (signal) => {
    const child = start("--port", "0");
    const [line] = await once(child.stdout, "data");
    const url = String(line).trim();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(await (await fetch(`${url}/__sim/health`)).json()).toEqual({ status: "ok" });
    // An answer under way does not hold it up.
    const body = JSON.stringify({ hang_after: 0 });
    await fetch(`${url}/__sim/scenarios`, { method: "POST", body });
    const hanging = await fetch(`${url}/v1/responses`, { method: "POST", body: '{"stream":true}' });
    const broken = expect(hanging.text()).rejects.toThrow();
    child.kill(signal);
    expect(await once(child, "exit")).toEqual([0, null]);
    await broken;
  },
);

test("shows its usage", async () => {
  const child = start("--help");
  expect(await text(child.stdout)).toMatch(/mini-chat-simulator \[--host HOST\] \[--port PORT\]/);
});

test.each([
  [["--port", "many"], /--port must be/],
  [["--colour", "red"], /--colour/],
])("refuses %j", async (args, message) => {
  const child = start(...args);
  const [problem, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  expect([code, problem]).toEqual([1, expect.stringMatching(message)]);
});

test("says that its port is taken", async () => {
  const { port } = await simulatorFor();
  const child = start("--port", String(port));
  const [problem, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  expect([code, problem]).toEqual([1, expect.stringMatching(/EADDRINUSE/)]);
});
