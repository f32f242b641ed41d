import type { AuditPlugin } from "../audit/publish.ts";
import type { Clock } from "../lib/clock.ts";
import type { QueueOptions } from "../outbox/queue.ts";
import type { ModelPolicyPlugin } from "../policy/plugin.ts";
import type { SecretSource } from "../providers/credentials.ts";

/** The seams where an embedding program or a test puts something else (ARCHITECTURE.md). */
export interface Overrides {
  readonly clock?: Clock;
  readonly policyPlugin?: ModelPolicyPlugin;
  /** By the name `plugins.audit.type` may give. */
  readonly auditPlugins?: Readonly<Record<string, AuditPlugin>>;
  /** Leases and attempts of outbox queues. */
  readonly queues?: QueueOptions["override"];
}

/** What comes from outside the configuration. */
export interface Given {
  /** Resolves the `secret_ref`s of providers. */
  readonly secrets: SecretSource;
  /** The value of an environment variable the configuration names. */
  readonly variable: (name: string) => string | undefined;
  readonly overrides: Overrides;
}
