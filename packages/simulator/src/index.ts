export type { SimulatorState } from "./http/control.ts";
export { type Simulator, startSimulator } from "./http/server.ts";
export type { CapturedRequest, Closed } from "./play/capture.ts";
export { credentialHash } from "./play/capture.ts";
export { builtinScenarios } from "./scenario/builtin.ts";
export type { Scenario, ScenarioEvent } from "./scenario/scenario.ts";
