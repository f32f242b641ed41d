import { createHash } from "node:crypto";
import type { ProviderRequest } from "../providers/contract.ts";

/**
 * Names an assembled context in the log without telling any of it: equal contexts, equal names
 * (context.md §12.1). 16 hexadecimal digits.
 */
export const contextFingerprint = (
  request: Pick<ProviderRequest, "messages" | "systemInstructions" | "tools">,
): string =>
  createHash("sha256")
    .update(JSON.stringify([request.systemInstructions ?? "", request.messages, request.tools]))
    .digest("hex")
    .slice(0, 16);
