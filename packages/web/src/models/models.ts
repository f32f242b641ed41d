import type { Client, Model } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";

export interface Models {
  /** Null until they were read. */
  readonly list: Store<readonly Model[] | null>;
  load(): Promise<void>;
  nameOf(modelId: string): string;
}

export const createModels = (client: Client): Models => {
  const list = createStore<readonly Model[] | null>(null);
  return {
    list,
    load: async () => list.set(await client.models.list()),
    nameOf: (modelId) => list.get()?.find((model) => model.model_id === modelId)?.display_name ?? modelId,
  };
};
