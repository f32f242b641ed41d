import type { ServerResponse } from "node:http";
import { beforeAll, describe, expect, test } from "vitest";
import type { Authenticator } from "../../src/auth/authenticate.ts";
import { jwtAuthenticator, newKey, type SigningKey, sign, startKeyServer, stopClock } from "./issuer.ts";
import { refusalOf, sendJson } from "./support.ts";

let first: SigningKey;
let second: SigningKey;
let stranger: SigningKey;
beforeAll(async () => {
  [first, second, stranger] = await Promise.all([newKey("first"), newKey("second"), newKey("stranger")]);
});

const refused = ["unauthorized", 401];
const unavailable = ["service_unavailable", 503];

const ask = async (authenticator: Authenticator, key: SigningKey, header: object = {}) =>
  refusalOf(authenticator.authenticate(`Bearer ${await sign(key, {}, header)}`));

/** Tokens that differ, so that none is remembered. */
const askTimes = (count: number, authenticator: Authenticator, key: SigningKey) =>
  Promise.all(
    Array.from({ length: count }, async (_, n) =>
      refusalOf(authenticator.authenticate(`Bearer ${await sign(key, { jti: String(n) })}`)),
    ),
  );

describe("rotation", () => {
  test("a new key is picked up as soon as a token names it", async () => {
    const clock = stopClock();
    const server = await startKeyServer(first);
    const authenticator = jwtAuthenticator(server.url);
    expect(await ask(authenticator, first)).toBe("none");
    server.publish(first, second);
    clock.advance(10_000);
    expect(await ask(authenticator, second)).toBe("none");
    expect(server.asked()).toBe(2);
  });

  test("a dropped key is no longer accepted once the keys have been read again", async () => {
    const clock = stopClock();
    const server = await startKeyServer(first, second);
    const authenticator = jwtAuthenticator(server.url);
    expect(await ask(authenticator, first)).toBe("none");
    server.publish(second);
    clock.advance(600_000);
    expect(await ask(authenticator, first)).toEqual(refused);
    expect(await ask(authenticator, second)).toBe("none");
  });

  test("reading the keys for a new one drops the old one too", async () => {
    const clock = stopClock();
    const server = await startKeyServer(first);
    const authenticator = jwtAuthenticator(server.url);
    expect(await ask(authenticator, first)).toBe("none");
    server.publish(second);
    clock.advance(60_000);
    expect(await ask(authenticator, second)).toBe("none");
    expect(await ask(authenticator, first)).toEqual(refused);
  });

  test("a token without key id is tried with every key it fits", async () => {
    const server = await startKeyServer(first, second);
    const authenticator = jwtAuthenticator(server.url);
    expect(await ask(authenticator, second, { kid: undefined })).toBe("none");
    expect(await ask(authenticator, stranger, { kid: undefined })).toEqual(refused);
  });
});

describe("the key server is spared", () => {
  test("one request serves all tokens, however many come at once", async () => {
    const server = await startKeyServer(first);
    const outcomes = await askTimes(20, jwtAuthenticator(server.url), first);
    expect(new Set(outcomes)).toEqual(new Set(["none"]));
    expect(server.asked()).toBe(1);
  });

  test("unknown key ids ask again once in ten seconds", async () => {
    const clock = stopClock();
    const server = await startKeyServer(first);
    const authenticator = jwtAuthenticator(server.url);
    expect(await ask(authenticator, first)).toBe("none");
    for (const [advance, asked] of [
      [0, 1],
      [9_999, 1],
      [1, 2],
      [0, 2],
      [10_000, 3],
    ] as const) {
      clock.advance(advance);
      const outcomes = await askTimes(20, authenticator, stranger);
      expect(outcomes).toEqual(outcomes.map(() => refused));
      expect(server.asked()).toBe(asked);
    }
  });

  test("a failing one is asked once a second, not once per request", async () => {
    const clock = stopClock();
    const server = await startKeyServer();
    server.answerWith((response) => response.writeHead(500).end());
    const authenticator = jwtAuthenticator(server.url);
    for (const [advance, asked] of [
      [0, 1],
      [999, 1],
      [1, 2],
    ] as const) {
      clock.advance(advance);
      const outcomes = await askTimes(20, authenticator, first);
      expect(outcomes).toEqual(outcomes.map(() => unavailable));
      expect(server.asked()).toBe(asked);
    }
    server.publish(first);
    clock.advance(1_000);
    expect(await ask(authenticator, first)).toBe("none");
  });
});

describe("without keys nobody gets in, and 503 says why", () => {
  test("when nothing listens", async () => {
    const server = await startKeyServer(first);
    await server.close();
    expect(await ask(jwtAuthenticator(server.url), first)).toEqual(unavailable);
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ["an error", (response) => response.writeHead(503).end()],
    ["a redirect", (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end()],
    ["no JSON", (response) => response.writeHead(200).end("<html>")],
    ["no key set", (response) => sendJson(response, { keys: "none" })],
    ["a broken connection", (response) => response.destroy()],
  ])("when the answer is %s", async (_answer, answer) => {
    const server = await startKeyServer();
    server.answerWith(answer);
    expect(await ask(jwtAuthenticator(server.url), first)).toEqual(unavailable);
  });

  test("when the keys in memory are too old", async () => {
    const clock = stopClock();
    const server = await startKeyServer(first);
    const authenticator = jwtAuthenticator(server.url);
    expect(await ask(authenticator, first)).toBe("none");
    await server.close();
    clock.advance(599_999);
    expect(await ask(authenticator, first)).toBe("none");
    clock.advance(1);
    expect(await ask(authenticator, first)).toEqual(unavailable);
  });

  test("but what can be refused without keys still is", async () => {
    const server = await startKeyServer(first);
    await server.close();
    const authenticator = jwtAuthenticator(server.url);
    expect(await refusalOf(authenticator.authenticate(undefined))).toEqual(refused);
    expect(await refusalOf(authenticator.authenticate("Bearer not-a-jwt"))).toEqual(refused);
  });
});
