import { describe, expect, test } from "vitest";
import type { LlmProvider, ProviderEvent, ProviderUsage } from "../../src/providers/contract.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { Cancellation } from "../../src/turns/cancellation.ts";
import { type GeneratingTurn, generate } from "../../src/turns/generate.ts";
import type { StreamEvent } from "../../src/turns/grammar.ts";
import type { Terminal, ToolCounts } from "../../src/turns/turn.ts";
import { request } from "../providers/support.ts";

const turn: GeneratingTurn = {
  id: "44444444-4444-4444-8444-444444444444",
  model: { id: "standard", inputMultiplierMicro: 1_000_000n, outputMultiplierMicro: 3_000_000n },
  toolLimits: { webSearch: 1, codeInterpreter: 1 },
  request: request(),
  files: new Map(),
  target: {
    providerId: "sim",
    kind: "openai_responses",
    storageBackend: "sim",
    origin: "http://127.0.0.1:1",
    apiPath: "",
    authHeaders: {},
    exposeReasoning: false,
  },
};

const text = (content: string): ProviderEvent => ({ type: "delta", kind: "text", content });
const usage: ProviderUsage = {
  inputTokens: 9,
  outputTokens: 3,
  cacheReadInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningTokens: 0,
};
const completed: ProviderEvent = { type: "terminal", outcome: { kind: "completed", usage, citations: [] } };
const aborted: ProviderEvent = { type: "terminal", outcome: { kind: "aborted", started: true } };

type Step = readonly ProviderEvent[] | (() => void);

/** A provider that has its batches ready, and between them lets happen what the test wants to. */
const adapterOf = (steps: readonly Step[]) => {
  const seen = { batches: 0, closed: false };
  const adapter: LlmProvider = {
    stream: () => ({
      closed: Promise.resolve(),
      async *[Symbol.asyncIterator]() {
        try {
          for (const step of steps) {
            if (typeof step === "function") step();
            else {
              seen.batches += 1;
              yield step;
            }
          }
        } finally {
          seen.closed = true;
        }
      },
    }),
    complete: () => Promise.reject(new Error("not used")),
  };
  return { adapter, seen };
};

interface Ran {
  readonly events: StreamEvent[];
  readonly terminal: Terminal;
  readonly counted: ToolCounts[];
  readonly metrics: string;
}

const run = async (
  adapter: LlmProvider,
  cancellation = new Cancellation(),
  onBatch: () => void = () => {},
): Promise<Ran> => {
  const metrics = createMetrics("m");
  const counted: ToolCounts[] = [];
  const countToolCalls = (calls: ToolCounts): void => void counted.push(calls);
  const running = generate({ adapter, metrics, logger: noLogger, countToolCalls }, turn, cancellation);
  const events: StreamEvent[] = [];
  for (;;) {
    const next = await running.next();
    if (next.done) return { events, terminal: next.value, counted, metrics: await metrics.render() };
    events.push(...next.value);
    onBatch();
  }
};

describe("a cancellation against a provider that is ready with more (turns.md §8)", () => {
  test("§23.12 before the first batch: nothing is told, nothing kept", async () => {
    const cancellation = new Cancellation();
    const { adapter } = adapterOf([() => cancellation.cancel("disconnect"), [text("late")], [aborted]]);
    const { events, terminal, metrics } = await run(adapter, cancellation);
    expect(events).toEqual([]);
    expect(terminal).toMatchObject({
      state: "cancelled",
      content: "",
      cancelReason: "disconnect",
      started: true,
    });
    expect(metrics).toContain('m_tokens_after_cancel_sum{trigger="disconnect"} 1');
  });

  test("§23.12 after text: exactly what came before it is kept", async () => {
    const cancellation = new Cancellation();
    const { adapter } = adapterOf([
      [text("before ")],
      [text("it")],
      () => cancellation.cancel("user_stop"),
      [text(" after")],
      [text(" it"), aborted],
    ]);
    const { events, terminal } = await run(adapter, cancellation);
    expect(events.map((event) => event.event)).toEqual(["delta", "delta"]);
    expect(terminal).toMatchObject({ state: "cancelled", content: "before it" });
  });

  test("§23.13 while the last batch is being told: never `completed`, and no usage", async () => {
    const cancellation = new Cancellation();
    const { adapter } = adapterOf([[text("all"), completed]]);
    const { terminal } = await run(adapter, cancellation, () => cancellation.cancel("disconnect"));
    expect(terminal).toMatchObject({ state: "cancelled", content: "all", usage: null });
  });

  test("before the provider is called: nothing was started, and the signal is counted all the same", async () => {
    const cancellation = new Cancellation();
    cancellation.cancel("server_shutdown");
    const { adapter } = adapterOf([[{ type: "terminal", outcome: { kind: "aborted", started: false } }]]);
    const { terminal, metrics } = await run(adapter, cancellation);
    expect(terminal).toMatchObject({ state: "cancelled", started: false });
    expect(metrics).toContain('m_cancel_requested_total{trigger="shutdown"} 1');
  });

  test("by the time limit of a turn fails it as `provider_timeout`, without its text", async () => {
    const cancellation = new Cancellation();
    const { adapter } = adapterOf([[text("x")], () => cancellation.cancel("timeout"), [aborted]]);
    const { terminal } = await run(adapter, cancellation);
    expect(terminal).toMatchObject({
      state: "failed",
      errorCode: "provider_timeout",
      started: true,
      usage: null,
    });
  });

  test("after the end does nothing", async () => {
    const cancellation = new Cancellation();
    const { adapter } = adapterOf([[text("x"), completed]]);
    const { terminal } = await run(adapter, cancellation);
    cancellation.cancel("disconnect");
    expect(terminal).toMatchObject({ state: "completed", usage });
  });
});

describe("generating", () => {
  test("reads the provider only as fast as batches are taken", async () => {
    const { adapter, seen } = adapterOf([[text("1")], [text("2")], [text("3")], [completed]]);
    const pulled: number[] = [];
    await run(adapter, new Cancellation(), () => pulled.push(seen.batches));
    expect(pulled).toEqual([1, 2, 3]);
  });

  test("stops at the call that is one too many, with all that came before it in its batch", async () => {
    const tool = (phase: "start" | "done"): ProviderEvent => ({
      type: "tool",
      phase,
      name: "web_search",
      details: {},
    });
    const batch = [tool("start"), tool("done"), text("so "), tool("start"), text("never told")];
    const { adapter, seen } = adapterOf([batch, [text("never read")], [completed]]);
    const { events, terminal, counted } = await run(adapter);
    expect(events.map((event) => event.event)).toEqual(["tool", "tool", "delta"]);
    expect(terminal).toMatchObject({
      state: "failed",
      errorCode: "web_search_calls_exceeded",
      usage: null,
      toolCounts: { webSearch: 1, codeInterpreter: 0, fileSearch: 0 },
    });
    expect(counted).toEqual([{ webSearch: 1, codeInterpreter: 0, fileSearch: 0 }]);
    expect(seen).toEqual({ batches: 1, closed: true });
  });

  test("survives a provider that breaks its contract: a failure of ours that was started", async () => {
    const { adapter } = adapterOf([
      [text("x")],
      () => {
        throw new Error("boom");
      },
    ]);
    const { terminal } = await run(adapter);
    expect(terminal).toMatchObject({
      state: "failed",
      errorCode: "internal_error",
      message: "internal error",
      errorDetail: "boom",
      started: true,
    });
  });
});
