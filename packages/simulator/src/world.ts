import { Gates } from "./play/gates.ts";
import { Recorder } from "./play/recorder.ts";
import { Program } from "./scenario/choice.ts";
import { Behaviour, type Held, type SimulatorState, type StateChange } from "./state.ts";
import { Files } from "./storage/files.ts";
import { VectorStores } from "./storage/vector-stores.ts";

/** Everything a simulator remembers. */
export class World {
  readonly program = new Program();
  readonly recorder = new Recorder();
  readonly gates = new Gates();
  readonly files = new Files();
  readonly stores = new VectorStores();
  readonly behaviour = new Behaviour();
  #answers = 0;

  /** `resp_mock_{n}`, from 1. */
  nextAnswerId(): string {
    this.#answers += 1;
    return `resp_mock_${this.#answers}`;
  }

  state(): SimulatorState {
    const { program, recorder, gates, behaviour } = this;
    return {
      missing_deletes: behaviour.missingDeletes,
      indexing: behaviour.indexing,
      fail: behaviour.faults,
      default_scenario: program.fallback,
      summary_scenario: program.summary,
      waiting_scenarios: program.waiting,
      requests: recorder.count,
      active: recorder.active.size,
      files: this.files.all.length,
      vector_stores: this.stores.all.length,
      open_gates: gates.openNames,
      waiting_gates: gates.waitingNames,
    };
  }

  held(): Held {
    return {
      files: this.files.all.map(({ id, filename, bytes }) => ({ id, filename, bytes: bytes.length })),
      vector_stores: this.stores.all.map(({ id, files }) => ({ id, files: [...files.keys()] })),
    };
  }

  change(change: StateChange): void {
    if (change.default_scenario !== undefined) this.program.fallback = change.default_scenario;
    if (change.summary_scenario !== undefined) this.program.summary = change.summary_scenario;
    this.behaviour.change(change);
  }

  /** As new, also the numbers of ids. Answers under way are not touched. */
  reset(): void {
    this.program.clear();
    this.program.fallback = null;
    this.program.summary = null;
    this.recorder.clear();
    this.gates.reset();
    this.files.reset();
    this.stores.reset();
    this.behaviour.reset();
    this.#answers = 0;
  }
}
