import { expect, test } from "vitest";
import { AppError } from "../../src/errors.ts";
import type { ApiServer } from "../../src/http/server.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { bearer, recordingLogger, testServer } from "./support.ts";

const ok = (api: ApiServer): void => {
  api.get("/whoami", async () => ({}));
  api.post("/send", { config: { refuseWhileDraining: true } }, async () => ({}));
};

test("identity is checked first, then the licence, then the rate", async () => {
  const seen: string[] = [];
  const server = testServer(
    ok,
    { server: { rate_limit: { rps: 1, burst: 1 } } },
    {
      licenseGate: {
        isLicensed: async () => {
          seen.push("licence");
          return seen.length < 2;
        },
      },
    },
  );
  const first = await server.app.inject({ url: "/v1/whoami", headers: bearer });
  expect(first.statusCode).toBe(200);
  const anonymous = await server.app.inject({ url: "/v1/whoami" });
  expect(anonymous.json().code).toBe("unauthorized");
  const unlicensed = await server.app.inject({ url: "/v1/whoami", headers: bearer });
  expect(unlicensed.json()).toMatchObject({ status: 403, code: "feature_not_licensed" });
});

test("verification impossible now is 503, not 401", async () => {
  const authenticator = {
    authenticate: async () => {
      throw new AppError("service_unavailable", { detail: "The identity service is not available." });
    },
  };
  const answer = await testServer(ok, {}, { authenticator }).app.inject({
    url: "/v1/whoami",
    headers: bearer,
  });
  expect(answer.statusCode).toBe(503);
  expect(answer.headers["retry-after"]).toBe("5");
});

test("over the rate: 429 with Retry-After; RateLimit headers on every answer", async () => {
  const { app } = testServer(ok, { server: { rate_limit: { rps: 1, burst: 2, per_user_rps: 0 } } });
  const states: string[] = [];
  for (let at = 0; at < 3; at += 1) {
    const answer = await app.inject({ url: "/v1/whoami", headers: bearer });
    states.push(
      `${answer.statusCode} ${answer.headers["ratelimit-limit"]} ${answer.headers["ratelimit-remaining"]}`,
    );
    if (answer.statusCode === 429) {
      expect(answer.json()).toMatchObject({ code: "too_many_requests", title: "Too Many Requests" });
      expect(answer.headers["retry-after"]).toBe("1");
      expect(answer.headers["ratelimit-reset"]).toBe("2");
    }
  }
  expect(states).toEqual(["200 2 1", "200 2 0", "429 2 0"]);
  const anonymous = await app.inject({ url: "/v1/whoami" });
  expect(anonymous.headers["ratelimit-limit"]).toBe("2");
});

test.each<[string, "GET" | "PUT" | "OPTIONS", string, number]>([
  ["an unknown path", "GET", "/v1/nothing", 404],
  ["the root of the API", "GET", "/v1", 404],
  ["a trailing slash", "GET", "/v1/whoami/", 404],
  ["an empty id", "GET", "/v1/chats/", 404],
  ["another method", "PUT", "/v1/whoami", 405],
  ["OPTIONS", "OPTIONS", "/v1/whoami", 405],
  ["a malformed path", "GET", "/v1/chats/%E0%A4%A", 400],
])("the refusal of %s has RateLimit headers and costs nothing", async (_name, method, url, status) => {
  const withIds = (api: ApiServer): void => {
    ok(api);
    api.get("/chats/:id", async () => ({}));
  };
  const { app } = testServer(withIds, { server: { rate_limit: { rps: 1, burst: 2 } } });
  for (let at = 0; at < 3; at += 1) {
    const answer = await app.inject({ method, url, headers: bearer });
    expect(answer.statusCode).toBe(status);
    expect(answer.headers).toMatchObject({
      "ratelimit-limit": "2",
      "ratelimit-remaining": "2",
      "ratelimit-reset": "0",
    });
  }
});

test("outside the API there are no RateLimit headers", async () => {
  const { app } = testServer(ok, { url_prefix: "/chat" });
  for (const url of ["/nothing", "/v1/whoami", "/chat/v10", "/chat/%E0%A4%A"]) {
    expect((await app.inject({ url })).headers).not.toHaveProperty("ratelimit-limit");
  }
});

test("the tighter bucket shows: the user's", async () => {
  const { app } = testServer(ok, { server: { rate_limit: { per_user_rps: 1, per_user_burst: 3 } } });
  const answer = await app.inject({ url: "/v1/whoami", headers: bearer });
  expect(answer.headers["ratelimit-limit"]).toBe("3");
  expect(answer.headers["ratelimit-remaining"]).toBe("2");
});

test("routes have buckets of their own", async () => {
  const { app } = testServer(ok, { server: { rate_limit: { rps: 1, burst: 1 } } });
  expect((await app.inject({ url: "/v1/whoami", headers: bearer })).statusCode).toBe(200);
  expect((await app.inject({ method: "POST", url: "/v1/send", headers: bearer })).statusCode).toBe(200);
});

test("too many in flight: 503; an ended request makes room", async () => {
  const release: (() => void)[] = [];
  const arrived: (() => void)[] = [];
  const slow = (api: ApiServer): void => {
    api.get("/slow", async () => {
      arrived.shift()?.();
      await new Promise<void>((resolve) => release.push(resolve));
      return {};
    });
  };
  const { app } = testServer(slow, { server: { rate_limit: { in_flight: 1 } } });
  const inHandler = new Promise<void>((resolve) => arrived.push(resolve));
  const first = app.inject({ url: "/v1/slow", headers: bearer });
  await inHandler;
  const second = await app.inject({ url: "/v1/slow", headers: bearer });
  expect(second.json()).toMatchObject({ status: 503, code: "service_unavailable" });
  release.shift()?.();
  expect((await first).statusCode).toBe(200);
  const again = new Promise<void>((resolve) => arrived.push(resolve));
  const third = app.inject({ url: "/v1/slow", headers: bearer });
  await again;
  release.shift()?.();
  expect((await third).statusCode).toBe(200);
});

test("while draining new work is refused and reads go on", async () => {
  const { app } = testServer(ok, {}, { isDraining: () => true });
  const answer = await app.inject({ method: "POST", url: "/v1/send", headers: bearer });
  expect(answer.json()).toMatchObject({ status: 503, code: "shutting_down" });
  expect(answer.headers["retry-after"]).toBe("5");
  expect(answer.headers.connection).toBe("close");
  expect((await app.inject({ url: "/v1/whoami", headers: bearer })).statusCode).toBe(200);
});

test("an answer that takes too long is 504, and the late one is dropped", async () => {
  const { logger, lines } = recordingLogger();
  let finish = (): void => {};
  let finished: Promise<void> | undefined;
  const slow = (api: ApiServer): void => {
    api.get("/slow", async () => {
      finished = new Promise<void>((resolve) => {
        finish = resolve;
      });
      await finished;
      return { late: true };
    });
  };
  const { app } = testServer(slow, { server: { request_timeout_secs: 1 } }, { logger });
  const answer = await app.inject({ url: "/v1/slow", headers: bearer });
  expect(answer.json()).toMatchObject({ status: 504, code: "request_timeout", title: "Gateway Timeout" });
  finish();
  await finished;
  expect(lines.filter(({ level }) => level === "error")).toEqual([]);
});

test("one log line per request: method, route template, status, duration, ids, no query", async () => {
  const { logger, lines } = recordingLogger();
  const metrics = createMetrics("m");
  const { app } = testServer(ok, {}, { logger, metrics });
  const headers = { ...bearer, "x-request-id": "abc" };
  await app.inject({ url: "/v1/whoami?secret=1", headers });
  await app.inject({ url: "/v1/unknown/0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f", headers });
  const [known, unknown] = lines.filter(({ msg }) => msg === "request");
  expect(known).toMatchObject({
    level: "info",
    method: "GET",
    route: "/v1/whoami",
    http_status: 200,
    http_request_id: "abc",
    tenant_id: "00000000-0000-4000-8000-000000000001",
    user_id: "00000000-0000-4000-8000-000000000002",
    requester_type: "user",
  });
  expect(known?.duration_ms).toBeTypeOf("number");
  expect(unknown).toMatchObject({ route: "none", http_status: 404 });
  expect(JSON.stringify(lines)).not.toContain("secret");
  const text = await metrics.render();
  expect(text).toContain(
    'm_http_server_request_duration_ms_count{method="GET",route="/v1/whoami",status="200"} 1',
  );
  expect(text).toContain('m_http_server_request_duration_ms_count{method="GET",route="none",status="404"} 1');
  expect(text).toContain('m_http_server_active_requests{method="GET",route="/v1/whoami"} 0');
});
