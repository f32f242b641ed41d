import type { Property } from "./scope.ts";

export type ResourceType = "chat" | "model" | "user_quota";

/** What the policy decision point is asked about (data.md §6). */
export interface AccessRequest {
  readonly resourceType: ResourceType;
  /** One of the actions of data.md §6. */
  readonly action: string;
  /** Always the chat's id, for everything inside a chat too. */
  readonly resourceId?: string;
}

/** What of a resource type may be constrained, and whether it must be (data.md §6). */
export const resources = {
  chat: { supported: ["owner_tenant_id", "owner_id", "id"], required: true },
  model: { supported: ["owner_tenant_id"], required: false },
  user_quota: { supported: ["owner_tenant_id", "owner_id"], required: true },
} as const satisfies Record<ResourceType, { supported: readonly Property[]; required: boolean }>;

const readActions: readonly string[] = ["list", "read", "list_messages", "read_attachment", "read_turn"];

/** Whether token scopes permit an action, as a policy point enforces them (data.md §6). */
export const scopesAllow = (scopes: readonly string[], action: string): boolean =>
  scopes.some((scope) => {
    if (scope === "*" || scope === "ai:mini_chat") return true;
    if (scope === "ai:mini_chat:read") return readActions.includes(action);
    return scope === "ai:mini_chat:write" && !readActions.includes(action);
  });
