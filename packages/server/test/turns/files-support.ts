import { randomUUID } from "node:crypto";
import { startSimulator } from "@mini-chat/simulator";
import sharp from "sharp";
import { z } from "zod";
import { overlay, type Tree } from "../../src/config/tree.ts";
import { storageConfig, upload } from "../attachments/support.ts";
import { startTestApp, type TestApp, type TestAppOptions } from "../support/app.ts";
import { type Caller, callers, modelEntry, premiumEntry } from "../support/config.ts";
import type { OpenedStream, WireEvent } from "../support/stream.ts";

/** `seeing` and `blind` read the storage of `sim`; `elsewhere` is of a provider with another storage. */
export const filesConfig = (simulatorPort: number, more: Tree = {}): Tree =>
  overlay(
    {
      ...storageConfig,
      providers: {
        sim: { storage_kind: "openai" },
        other: {
          kind: "openai_responses",
          host: "127.0.0.1",
          port: simulatorPort,
          use_http: true,
          storage_kind: "openai",
        },
      },
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("seeing", {
                multimodal_capabilities: ["VISION_INPUT"],
                preference: { is_default: true, sort_order: 0 },
              }),
              modelEntry("blind", { preference: { is_default: false, sort_order: 1 } }),
              premiumEntry("premium", { multimodal_capabilities: ["VISION_INPUT"] }),
            ],
          },
        },
      },
    },
    more,
  ) as Tree;

/** An application whose files lie at the simulator, which searches and cites what was uploaded. */
export const startFilesApp = async (options: TestAppOptions = {}): Promise<TestApp> => {
  const simulator = options.simulator ?? (await startSimulator());
  const app = await startTestApp({
    ...options,
    simulator,
    config: filesConfig(simulator.port, options.config as Tree),
  });
  return {
    ...app,
    close: async () => {
      await app.close();
      if (options.simulator === undefined) await simulator.close();
    },
  };
};

export const png = (color = "teal"): Promise<Buffer> =>
  sharp({ create: { width: 40, height: 20, channels: 3, background: color } })
    .png()
    .toBuffer();

type Kind = "document" | "image" | "sheet";

/** Uploads a file of a kind and returns what the API calls it. */
export const uploaded = async (
  app: TestApp,
  chatId: string,
  kind: Kind,
  more: { readonly text?: string; readonly filename?: string; readonly caller?: Caller } = {},
): Promise<string> => {
  const { caller = callers.ann } = more;
  const file = {
    document: async () => ({
      filename: "plan.txt",
      type: "text/plain",
      bytes: more.text ?? "Two items are due.",
    }),
    image: async () => ({ filename: "photo.png", type: "image/png", bytes: await png() }),
    sheet: async () => ({
      filename: "sums.xlsx",
      type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
      bytes: Buffer.from("PK\x03\x04 and so on"),
    }),
  }[kind];
  const sent = { ...(await file()), ...(more.filename === undefined ? {} : { filename: more.filename }) };
  const { status, body } = await upload(app, chatId, sent, { caller });
  if (status !== 201) throw new Error(`not uploaded: ${JSON.stringify(body)}`);
  return body.id;
};

/** What the provider calls a file. */
export const providerIdOf = async (app: TestApp, attachmentId: string): Promise<string> => {
  const { rows } = await app.db.query<{ id: string }>(
    "select provider_file_id as id from attachments where id = $1",
    [attachmentId],
  );
  return rows[0]?.id ?? "";
};

/** Sends a message about files and reads its stream to the end. */
export const askAbout = async (
  app: TestApp,
  chatId: string,
  content: string,
  more: { readonly body?: object; readonly caller?: Caller } = {},
): Promise<{ requestId: string; events: WireEvent[]; stream: OpenedStream }> => {
  const requestId = randomUUID();
  const stream = await app.send(
    chatId,
    { content, request_id: requestId, ...more.body },
    more.caller ?? callers.ann,
  );
  if (stream.status !== 200) throw new Error(`refused: ${JSON.stringify(await stream.problem())}`);
  return { requestId, events: await stream.rest(), stream };
};

const modelCall = z.looseObject({
  instructions: z.string().default(""),
  input: z.array(
    z.looseObject({
      content: z.array(
        z.looseObject({ type: z.string(), text: z.string().optional(), file_id: z.string().optional() }),
      ),
    }),
  ),
  tools: z
    .array(
      z.looseObject({
        type: z.string(),
        vector_store_ids: z.array(z.string()).optional(),
        filters: z.unknown().optional(),
        container: z.looseObject({ file_ids: z.array(z.string()) }).optional(),
      }),
    )
    .default([]),
  metadata: z.record(z.string(), z.string()),
});

/** A model call as the provider received it, as far as tests look into it; the rest is kept. */
export type ModelCall = z.output<typeof modelCall>;

/** All model calls, oldest first. */
export const modelCalls = (app: TestApp): ModelCall[] =>
  app.simulator
    .requests()
    .filter(({ path }) => path.endsWith("/responses"))
    .map(({ body }) => modelCall.parse(body));

export const lastRequest = (app: TestApp): ModelCall => {
  const last = modelCalls(app).at(-1);
  if (last === undefined) throw new Error("no model was called");
  return last;
};

export const toolsOf = (app: TestApp): string[] => lastRequest(app).tools.map(({ type }) => type);

export const citationsIn = (events: readonly WireEvent[]): Record<string, unknown>[] =>
  events.flatMap(({ event, data }) =>
    event === "citations" ? (data["items"] as Record<string, unknown>[]) : [],
  );
