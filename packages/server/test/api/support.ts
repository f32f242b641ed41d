import { request as httpRequest } from "node:http";
import { expect } from "vitest";
import { overlay, type Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import {
  type Answer,
  type CallOptions,
  startTestApp,
  type TestApp,
  type TestAppOptions,
} from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import type { WireEvent } from "../support/stream.ts";
import { situations } from "./catalog.ts";
import { type ApiDocument, type Contract, createContract } from "./document.ts";

/** Callers beside those every test application knows: other scopes, a tenant without the feature. */
export const moreCallers = {
  reader: { ...callers.ann, token: "token-ann-reads" },
  writer: { ...callers.ann, token: "token-ann-writes" },
  nobody: { ...callers.ann, token: "token-ann-may-nothing" },
  unlicensed: {
    token: "token-of-unlicensed",
    tenantId: "cccccccc-0000-4000-8000-000000000003",
    userId: "c0000000-0000-4000-8000-00000000000d",
  },
} as const satisfies Record<string, Caller>;

const tokenOf = ({ token, tenantId, userId }: Caller, scopes: readonly string[] = ["*"]): Tree => ({
  token,
  tenant_id: tenantId,
  user_id: userId,
  scopes,
});

const accessConfig: Tree = {
  auth: {
    tokens: [
      ...Object.values(callers).map((caller) => tokenOf(caller)),
      tokenOf(moreCallers.reader, ["ai:mini_chat:read"]),
      tokenOf(moreCallers.writer, ["ai:mini_chat:write"]),
      tokenOf(moreCallers.nobody, []),
      tokenOf(moreCallers.unlicensed),
    ],
  },
  license: { tenants: [callers.ann.tenantId, callers.bob.tenantId] },
};

/** A request as it goes on the wire: nothing is added to it or normalized. */
export interface RawRequest {
  readonly method: string;
  /** Request target, from `/v1` on or what the test wants to send. */
  readonly target: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string | Uint8Array | undefined;
}

export interface ApiApp extends TestApp {
  readonly contract: Contract;
  /** Like `call`, with the text of the body as it is; the answer is checked, too. */
  raw(request: RawRequest): Promise<Answer>;
}

/** An application every answer of which is checked against the document and the catalog (api.md §12.1). */
export const startApiApp = async (options: TestAppOptions = {}): Promise<ApiApp> => {
  const app = await startTestApp({ ...options, config: overlay(accessConfig, options.config ?? {}) as Tree });
  const contract = createContract(JSON.parse(JSON.stringify(app.app.openapi())) as ApiDocument);
  // A worker has no public listener.
  const root = new URL(app.app.api === null ? "http://127.0.0.1/v1" : app.base);
  const check = (method: string, target: string, answer: Answer): Answer => {
    expectContract(contract, root.pathname, method, target, answer);
    return answer;
  };
  const call = async (method: string, path: string, more: CallOptions = {}): Promise<Answer> => {
    const target = `${root.pathname}${path}`;
    if (!(more.body instanceof FormData)) return check(method, target, await app.call(method, path, more));
    return check(method, target, await sendForm(`${app.base}${path}`, method, more.body, more));
  };
  const raw = async (one: RawRequest): Promise<Answer> =>
    check(one.method, one.target, await sendRaw(root, one));
  return {
    ...app,
    contract,
    call,
    raw,
    ask: async (...args) => {
      const asked = await app.ask(...args);
      expectEvents(contract, asked.events);
      return asked;
    },
  };
};

/** A form, with the boundary the client chooses for it. */
const sendForm = async (
  url: string,
  method: string,
  body: FormData,
  { caller = callers.ann, headers: given }: CallOptions,
): Promise<Answer> => {
  const headers = { ...(caller === null ? {} : { authorization: `Bearer ${caller.token}` }), ...given };
  const response = await fetch(url, { method, headers, body });
  return { status: response.status, headers: response.headers, body: await response.json() };
};

const sendRaw = (root: URL, { method, target, headers = {}, body }: RawRequest): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const framed =
      body === undefined || "transfer-encoding" in headers
        ? headers
        : { "content-length": String(Buffer.byteLength(body)), ...headers };
    const options = {
      host: root.hostname,
      port: root.port,
      method,
      path: target,
      headers: framed,
      agent: false,
    };
    const sent = httpRequest(options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const known = new Headers();
        for (const [name, value] of Object.entries(response.headers)) known.set(name, String(value));
        const isJson = /json/.test(known.get("content-type") ?? "") && text !== "";
        resolve({ status: response.statusCode ?? 0, headers: known, body: isJson ? JSON.parse(text) : text });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });

/** Fails unless the answer is one the document and api.md §1.3, §5 allow. */
export const expectContract = (
  contract: Contract,
  root: string,
  method: string,
  target: string,
  { status, headers, body }: Answer,
): void => {
  const where = `${method} ${target}: ${status} ${JSON.stringify(body)}`;
  const header = (name: string): string => headers.get(name) ?? "";
  expect(header("x-request-id"), where).toMatch(/^[A-Za-z0-9._-]{1,64}$/);
  expect(header("cache-control"), where).toMatch(/^no-(store|cache)$/);
  // An answer to HEAD has no body to check.
  if (method === "HEAD") return;
  const absolute = target.replace(/^https?:\/\/[^/?#]*/i, "");
  const path = absolute.startsWith(`${root}/`) ? absolute.slice(root.length) : "outside";
  // The routes of api.md §9 are no operations.
  if (path === "outside" && status < 400) return;
  const answered = { status, contentType: header("content-type"), body };
  expect(contract.faults(method, path, answered), where).toEqual([]);
  if (contract.find(method, path) !== undefined && (body as { code?: string }).code !== "route_not_found") {
    for (const name of ["limit", "remaining", "reset"])
      expect(header(`ratelimit-${name}`), where).toMatch(/^\d+$/);
  }
  if (status === 201) expect(header("location"), where).toMatch(/^\//);
  if (status >= 400) expectProblem(where, absolute, header, body as Problem);
};

interface Problem {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly instance: string;
  readonly errors?: readonly object[];
  readonly context?: object;
  readonly quota_scope?: string;
}

const expectProblem = (
  where: string,
  target: string,
  header: (name: string) => string,
  problem: Problem,
): void => {
  const { status, code, title } = problem;
  expect(situations, where).toContain(`${status} ${code} ${title}`);
  expect(problem.instance, where).toBe(target.replace(/[?#].*$/s, ""));
  expect("quota_scope" in problem, where).toBe(code === "quota_exceeded");
  expect("context" in problem, where).toBe(code === "context_budget_exceeded");
  expect(header("www-authenticate"), where).toBe(status === 401 ? "Bearer" : "");
  if (status === 405) expect(header("allow"), where).not.toBe("");
  if (code === "invalid_request" && status === 422) expect(problem.errors?.length, where).toBeGreaterThan(0);
  const waits = status === 503 || code === "too_many_requests" || code === "vector_store_timeout";
  expect(/^\d+$/.test(header("retry-after")), where).toBe(waits);
};

/** Fails unless every event has the payload its component describes. */
export const expectEvents = (contract: Contract, events: readonly WireEvent[]): void => {
  for (const { event, data } of events) expect(contract.eventFaults(event, data), event).toEqual([]);
};

// What a refusal may touch: heartbeats, leases and deliveries of the machinery, never the data of tenants.
const machinery = [
  "app_instances",
  "outbox_message",
  "outbox_partition",
  "outbox_parked",
  "policy_snapshots",
  "schema_migrations",
];

/** A digest of every row of the data and of every event ever enqueued, to show that nothing was written. */
export const dataDigest = async (db: Db): Promise<Readonly<Record<string, string>>> => {
  const { rows: tables } = await db.query<{ name: string }>(
    `select table_name as name from information_schema.tables
     where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> all($1::text[]) order by 1`,
    [machinery],
  );
  const selects = tables.map(
    ({ name }) =>
      `select '${name}' as name, count(*) || ' ' || md5(coalesce(string_agg(t::text, ',' order by t::text), '')) as digest from ${name} t`,
  );
  selects.push("select 'events' as name, last_value::text as digest from outbox_message_id_seq");
  const { rows } = await db.query<{ name: string; digest: string }>(selects.join(" union all "));
  return Object.fromEntries(rows.map(({ name, digest }) => [name, digest]));
};
