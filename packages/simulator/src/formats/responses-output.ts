import type { Terminal, ToolEvent, ToolName } from "../scenario/scenario.ts";
import type { WireEvent } from "./format.ts";

type Emit = (type: string, body: object, deltas?: number) => WireEvent;

interface Item {
  readonly index: number;
  /** As it stands in `output`; completed in place. */
  readonly value: { id: string } & Record<string, unknown>;
}

/** Prefix of a call's ids, and the events that make its phases. */
const tools: Readonly<
  Record<ToolName, { prefix: string; start: readonly string[]; progress: readonly string[] }>
> = {
  web_search: { prefix: "ws", start: ["in_progress", "searching"], progress: [] },
  file_search: { prefix: "fs", start: ["in_progress", "searching"], progress: [] },
  code_interpreter: { prefix: "ci", start: ["in_progress"], progress: ["interpreting"] },
};

/** The output items of one response, with the events that announce, fill and close them. */
export class ResponsesOutput {
  readonly #suffix: string;
  readonly #emit: Emit;
  readonly items: object[] = [];
  readonly #calls = new Map<ToolName, Item>();
  #message: Item | null = null;
  /** Whether the message's events are complete: false when only raw deltas made it. */
  #announced = false;
  #text: string[] = [];
  #reasoning: Item | null = null;
  #thoughts: string[] = [];

  constructor(suffix: string, emit: Emit) {
    this.#suffix = suffix;
    this.#emit = emit;
  }

  get messageId(): string {
    return this.#message?.value.id ?? "";
  }

  get messageIndex(): number {
    return this.#message?.index ?? 0;
  }

  openMessage(): readonly WireEvent[] {
    if (this.#announced) return [];
    this.#announced = true;
    const item = this.#messageItem();
    return [
      this.#emit("response.output_item.added", { output_index: item.index, item: item.value }),
      this.#emit("response.content_part.added", {
        ...place(item),
        content_index: 0,
        part: { type: "output_text", text: "", annotations: [], logprobs: [] },
      }),
    ];
  }

  /** Part of a message that `openMessage` announced. */
  addText(content: string): void {
    this.#text.push(content);
  }

  addLooseText(content: string): void {
    this.#messageItem();
    this.#text.push(content);
  }

  reasoning(content: string): readonly WireEvent[] {
    const opening: WireEvent[] = [];
    if (this.#reasoning === null) {
      this.#reasoning = this.#add("rs", { type: "reasoning", summary: [] });
      const { index, value } = this.#reasoning;
      opening.push(this.#emit("response.output_item.added", { output_index: index, item: value }));
    }
    this.#thoughts.push(content);
    const body = { ...place(this.#reasoning), summary_index: 0, delta: content };
    return [...opening, this.#emit("response.reasoning_summary_text.delta", body, 1)];
  }

  /** A repeated `start` repeats the events of the call under way; after `done` it begins another call. */
  tool(event: ToolEvent): readonly WireEvent[] {
    const { prefix, start, progress } = tools[event.tool];
    const opening: WireEvent[] = [];
    const type = `${event.tool}_call`;
    let call = this.#calls.get(event.tool);
    if (call === undefined) {
      call = this.#add(prefix, { type, status: "in_progress" });
      this.#calls.set(event.tool, call);
      opening.push(this.#emit("response.output_item.added", { output_index: call.index, item: call.value }));
    }
    const at = place(call);
    if (event.phase !== "done") {
      const words = event.phase === "start" ? start : progress;
      return [...opening, ...words.map((word) => this.#emit(`response.${type}.${word}`, at))];
    }
    const found = {
      ...(event.tool === "file_search" ? { results: event.results ?? [] } : {}),
      ...(event.tool === "code_interpreter" ? { outputs: event.outputs ?? [] } : {}),
    };
    Object.assign(call.value, { status: "completed" }, found);
    this.#calls.delete(event.tool);
    return [
      ...opening,
      this.#emit(`response.${type}.completed`, { ...at, ...found }),
      this.#emit("response.output_item.done", { output_index: call.index, item: call.value }),
    ];
  }

  /** Completes the items; the citations belong to the message. */
  close(citations: readonly object[], terminal: Terminal): readonly WireEvent[] {
    if (this.#message === null && citations.length > 0) this.#messageItem();
    return [...this.#closeReasoning(), ...this.#closeMessage(citations, terminal)];
  }

  #closeReasoning(): readonly WireEvent[] {
    const item = this.#reasoning;
    if (item === null) return [];
    const text = this.#thoughts.join("");
    item.value["summary"] = [{ type: "summary_text", text }];
    return [
      this.#emit("response.reasoning_summary_text.done", { ...place(item), summary_index: 0, text }),
      this.#emit("response.output_item.done", { output_index: item.index, item: item.value }),
    ];
  }

  #closeMessage(citations: readonly object[], terminal: Terminal): readonly WireEvent[] {
    const item = this.#message;
    if (item === null) return [];
    const text = this.#text.join("");
    const part = { type: "output_text", text, annotations: citations, logprobs: [] };
    item.value["status"] = terminal === "completed" ? "completed" : "incomplete";
    item.value["content"] = [part];
    if (!this.#announced || terminal === "failed") return [];
    const at = { ...place(item), content_index: 0 };
    return [
      ...citations.map((annotation, index) =>
        this.#emit("response.output_text.annotation.added", { ...at, annotation_index: index, annotation }),
      ),
      this.#emit("response.output_text.done", { ...at, text, logprobs: [] }),
      this.#emit("response.content_part.done", { ...at, part }),
      this.#emit("response.output_item.done", { output_index: item.index, item: item.value }),
    ];
  }

  #messageItem(): Item {
    this.#message ??= this.#add("msg", {
      type: "message",
      status: "in_progress",
      role: "assistant",
      content: [],
    });
    return this.#message;
  }

  #add(prefix: string, body: object): Item {
    const index = this.items.length;
    const value = { id: `${prefix}_${this.#suffix}_${index}`, ...body };
    this.items.push(value);
    return { index, value };
  }
}

const place = ({ index, value }: Item): { item_id: string; output_index: number } => ({
  item_id: value.id,
  output_index: index,
});
