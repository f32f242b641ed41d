import type { OfferedTools } from "../quota/estimate.ts";
import type { KillSwitches, ModelEntry } from "./snapshot.ts";

/** What decides on the tools of a request to one candidate model. */
export interface OfferInput {
  readonly model: ModelEntry;
  readonly killSwitches: KillSwitches;
  /** The request, or the replaced turn, asks for web search. */
  readonly webSearchRequested: boolean;
  /** Only of files in the storage the candidate's provider reads. */
  readonly files: {
    /** The chat has a ready document for file search, and a vector store. */
    readonly searchable: boolean;
    /** The chat has a ready attachment for the code interpreter. */
    readonly codeFiles: boolean;
  };
}

/**
 * The tools offered to a candidate model (policy.md §5); the same three booleans decide surcharge,
 * daily quota and request. `disable_web_search` is no condition here: it has refused the request.
 */
export const offeredTools = ({
  model,
  killSwitches,
  webSearchRequested,
  files,
}: OfferInput): OfferedTools => {
  const { toolSupport } = model.generalConfig;
  return {
    fileSearch: !killSwitches.disableFileSearch && files.searchable && toolSupport.fileSearch,
    webSearch: webSearchRequested && toolSupport.webSearch,
    codeInterpreter: !killSwitches.disableCodeInterpreter && files.codeFiles && toolSupport.codeInterpreter,
  };
};
