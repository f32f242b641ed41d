import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { ClientOptions } from "../src/index.ts";
import { done, playScript, problem, type Script, started, stream, text } from "./script.ts";
import { clientAt } from "./support.ts";

const id = "6f1c2d3e-8a4b-4c5d-9e6f-7a8b9c0d1e2f";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const limits = { timeoutMs: 35_000, silenceMs: 90_000, recoverForMs: 30_000 };

const clientOf = ({ fetch }: Script, token: ClientOptions["token"]) =>
  clientAt("http://server", {
    ...limits,
    fetch: async (input, init) => {
      init?.signal?.throwIfAborted();
      return fetch(input, init);
    },
    token,
  });

/** Takes longer to give the second token than any limit of the client. */
const signingIn = async (refused?: string): Promise<string> => {
  if (refused !== undefined) await vi.advanceTimersByTimeAsync(120_000);
  return refused === undefined ? "old" : "new";
};

test("a message whose token was refused is sent with the new one, however long that takes", async () => {
  const script = playScript(
    () => problem("unauthorized", 401),
    () => stream(started(id), text("a"), done()),
  );
  const result = await clientOf(script, signingIn).send("c", { content: "hi", request_id: id }).result();
  expect(result.state).toBe("completed");
  expect(script.asked).toEqual(["POST /messages:stream", "POST /messages:stream"]);
});

test("a change whose token was refused is made with the new one, however long that takes", async () => {
  const script = playScript(
    () => problem("unauthorized", 401),
    () => Response.json({ id: "c" }),
  );
  const chat = await clientOf(script, signingIn).chats.rename("c", "x");
  expect(chat.id).toBe("c");
});

test("the outcome of a turn is found after a sign-in, however long that takes", async () => {
  const script = playScript(
    () => problem("unauthorized", 401),
    () => Response.json({ state: "error", error_code: "provider_error", request_id: id }),
  );
  const result = await clientOf(script, signingIn).turns.resume("c", id).result();
  expect(result).toMatchObject({ state: "failed", code: "provider_error" });
});

test("a signal ends the wait for a token, with its reason", async () => {
  const script = playScript();
  const abort = new AbortController();
  const stopped = clientOf(script, () => new Promise(() => {})).quota({ signal: abort.signal });
  abort.abort("enough");
  await expect(stopped).rejects.toBe("enough");
  expect(script.asked).toEqual([]);
});
