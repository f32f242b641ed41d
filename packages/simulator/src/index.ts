export { type CapturedRequest, type Closed, credentialHash } from "./play/capture.ts";
export { type BuiltinName, builtinScenarios } from "./scenario/builtin.ts";
export { InvalidInput } from "./scenario/checks.ts";
export type {
  Malformation,
  RawEvent,
  Scenario,
  ScenarioEvent,
  ScenarioFailure,
  Terminal,
  ToolEvent,
  ToolName,
  Usage,
} from "./scenario/scenario.ts";
export { type Simulator, type SimulatorOptions, startSimulator } from "./simulator.ts";
export type { Fault, Faults, Held, Operation, SimulatorState, StateChange } from "./state.ts";
export type { Indexing, IndexingStatus } from "./storage/vector-stores.ts";
