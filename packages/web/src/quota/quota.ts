import type { Client, QuotaStatus } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";

export interface Quota {
  readonly status: Store<QuotaStatus | null>;
  /** Reads it again; what was known stays when that fails. */
  refresh(): void;
}

export const createQuota = (client: Client): Quota => {
  const status = createStore<QuotaStatus | null>(null);
  return {
    status,
    refresh: () => {
      client.quota().then(status.set, () => {});
    },
  };
};
