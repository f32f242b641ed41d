import { type Simulator, startSimulator } from "@mini-chat/simulator";
import type { Providers } from "../../src/providers/registry.ts";
import {
  type ProviderStorage,
  type StorageContext,
  StorageError,
  type StorageUpload,
} from "../../src/providers/storage-contract.ts";
import { entry, recordTelemetry, registryOf, type Telemetry, tenant } from "./support.ts";

export const context: StorageContext = { tenantId: tenant, correlationId: "corr-1" };

export const bytesOf = async function* (...pieces: readonly (string | Uint8Array)[]) {
  for (const piece of pieces) yield typeof piece === "string" ? Buffer.from(piece) : piece;
};

export const upload = (...pieces: readonly (string | Uint8Array)[]): StorageUpload => ({
  name: "chat_attachment.txt",
  contentType: "text/plain",
  stream: bytesOf(...pieces),
});

export interface StorageWorld {
  readonly simulator: Simulator;
  readonly providers: Providers;
  readonly storage: ProviderStorage;
  readonly telemetry: Telemetry;
  close(): Promise<void>;
}

/** Provider `p` with its storage at a simulator. */
export const storageWorld = async (
  more: Record<string, unknown> = {},
  options: Parameters<typeof registryOf>[1] = {},
): Promise<StorageWorld> => {
  const simulator = await startSimulator();
  const telemetry = recordTelemetry();
  const providers = registryOf(
    { p: entry(simulator.port, { storage_kind: "openai", ...more }) },
    { telemetry, ...options },
  );
  const storage = providers.storage.byProviderId("p");
  if (storage === null) throw new Error("p has no storage");
  const close = async (): Promise<void> => {
    await Promise.all([simulator.close(), providers.close()]);
  };
  return { simulator, providers, storage, telemetry, close };
};

/** The `StorageError` a call ends with. */
export const failureOf = async (call: Promise<unknown>): Promise<StorageError> => {
  const error = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof StorageError)) throw new Error(`no StorageError: ${String(error)}`);
  return error;
};

export const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
};
