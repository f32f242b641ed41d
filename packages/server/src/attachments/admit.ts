import type { Actor } from "../auth/actor.ts";
import { AppError } from "../errors.ts";
import { findModel } from "../policy/select.ts";
import type { PolicyService } from "../policy/service.ts";
import type { KillSwitches, ModelEntry } from "../policy/snapshot.ts";
import type { ProviderStorage, StorageRegistry } from "../providers/storage-contract.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { FileType } from "./mime.ts";

/** What the chat's model and the tenant's policy say about uploads to it. */
export interface Admission {
  readonly storage: ProviderStorage;
  /** MiB; 0 = none. */
  readonly maxFileSizeMb: number;
  readonly codeInterpreter: "offered" | "unsupported" | "switched_off";
  readonly images: boolean;
  /** The storage is our own database: only what we search ourselves is of use there. */
  readonly local: boolean;
}

export interface AdmitDeps {
  readonly policy: Pick<PolicyService, "resolve">;
  readonly storage: Pick<StorageRegistry, "forModelProvider">;
}

/**
 * Where files of a chat with this model go, and what they may be (attachments.md §3.1, §6). Throws 503
 * when policy, model or storage cannot be resolved: elsewhere the chat could not use the file.
 */
export const admitUpload = async (
  deps: AdmitDeps,
  actor: Actor,
  selectedModel: string,
): Promise<Admission> => {
  const { snapshot } = await deps.policy.resolve(actor);
  const model = findModel(snapshot, selectedModel);
  const storage = model === undefined ? null : deps.storage.forModelProvider(model.providerId);
  if (model === undefined || storage === null) {
    throw new AppError("service_unavailable", {
      detail: "Files cannot be stored for the model of this chat.",
    });
  }
  const { maxFileSizeMb, toolSupport } = model.generalConfig;
  return {
    storage,
    maxFileSizeMb,
    codeInterpreter: codeInterpreterOf(toolSupport, snapshot.killSwitches),
    images: !snapshot.killSwitches.disableImages,
    local: storage.local,
  };
};

const codeInterpreterOf = (
  { codeInterpreter }: ModelEntry["generalConfig"]["toolSupport"],
  { disableCodeInterpreter }: KillSwitches,
): Admission["codeInterpreter"] => {
  if (!codeInterpreter) return "unsupported";
  return disableCodeInterpreter ? "switched_off" : "offered";
};

/** A spreadsheet is text like any other where no provider computes with it (docs/retrieval.md). */
export const typeWithin = (type: FileType, { local }: Pick<Admission, "local">): FileType =>
  local && type.purpose === "code_interpreter" ? { ...type, purpose: "file_search" } : type;

/** Refuses a file that could be used for nothing (attachments.md §6). */
export const refuseUseless = (
  { metrics }: { readonly metrics: Metrics },
  type: FileType,
  admission: Admission,
): void => {
  if (type.purpose === "code_interpreter" && admission.codeInterpreter !== "offered") {
    if (admission.codeInterpreter === "switched_off") metrics.count("code_interpreter_disabled");
    throw invalid("Code interpreter is currently unavailable");
  }
  if (type.kind === "image" && !admission.images) {
    throw new AppError("images_disabled", { detail: "Images are switched off." });
  }
  if (type.kind === "image" && admission.local) {
    throw new AppError("unsupported_media", { detail: "The model of this chat cannot be given images." });
  }
};

export const invalid = (detail: string): AppError =>
  new AppError("invalid_request", { title: "Validation Error", detail });
