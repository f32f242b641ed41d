import type { Client, Model } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";

export interface Models {
  /** Null until they were read. */
  readonly list: Store<readonly Model[] | null>;
  /** Reads them; whoever asks meanwhile waits for the same answer. Throws what the read throws. */
  load(): Promise<void>;
  nameOf(modelId: string): string;
}

export const createModels = (client: Client): Models => {
  const list = createStore<readonly Model[] | null>(null);
  let reading: Promise<void> | null = null;
  const read = async (): Promise<void> => {
    try {
      list.set(await client.models.list());
    } finally {
      reading = null;
    }
  };
  return {
    list,
    load: () => {
      reading ??= read();
      return reading;
    },
    nameOf: (modelId) => list.get()?.find((model) => model.model_id === modelId)?.display_name ?? modelId,
  };
};
