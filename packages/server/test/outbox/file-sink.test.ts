import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createFileSink } from "../../src/outbox/file-sink.ts";
import type { Sink } from "../../src/outbox/sink.ts";
import { delivery, never } from "./deliveries.ts";
import { eventually, signal } from "./support.ts";

describe("file sink", () => {
  let directory: string;
  let path: string;
  const sinks: Sink[] = [];
  const openSink = (...args: Parameters<typeof createFileSink>): Sink => {
    const sink = createFileSink(...args);
    sinks.push(sink);
    return sink;
  };

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "outbox-sink-"));
    path = join(directory, "events.jsonl");
  });
  afterEach(async () => {
    await Promise.all(sinks.splice(0).map((sink) => sink.close()));
    await rm(directory, { recursive: true });
  });

  const linesOf = async (): Promise<string[]> => (await readFile(path, "utf8")).split("\n").slice(0, -1);
  /** The numbers of the readable lines, in order. */
  const numbersOf = async (): Promise<number[]> =>
    (await linesOf()).flatMap((line) => {
      try {
        return JSON.parse(line).event.number;
      } catch {
        return [];
      }
    });

  it("appends one JSON object per line, the event unchanged", async () => {
    await openSink({ path }).publish([delivery(1), delivery(2)], never);
    const { payload, messageId } = delivery(1);
    expect((await linesOf())[0]).toBe(
      `{"queue":"usage","idempotency_key":"key-1","message_id":"${messageId}","event":${payload}}`,
    );
    expect((await linesOf()).map((line) => JSON.parse(line).event)).toEqual([
      JSON.parse(delivery(1).payload),
      JSON.parse(delivery(2).payload),
    ]);
  });

  it("is not done before the data is on disk", async () => {
    const syncing = signal();
    const onDisk = signal();
    const sink = openSink({
      path,
      open: async (name, flags) => {
        const handle = await open(name, flags);
        const datasync = handle.datasync.bind(handle);
        handle.datasync = async () => {
          syncing.give();
          await onDisk.given;
          await datasync();
        };
        return handle;
      },
    });
    let isDone = false;
    const published = sink.publish([delivery(1)], never).then(() => {
      isDone = true;
    });
    await syncing.given;
    // Written, as anybody can see, and yet not done.
    expect(await numbersOf()).toEqual([1]);
    expect(isDone).toBe(false);
    onDisk.give();
    await published;
  });

  it("shares one write and one flush between all that arrive meanwhile, in order", async () => {
    let syncs = 0;
    const gate = signal();
    const sink = openSink({
      path,
      open: async (name, flags) => {
        const handle = await open(name, flags);
        const datasync = handle.datasync.bind(handle);
        handle.datasync = async () => {
          syncs += 1;
          await gate.given;
          await datasync();
        };
        return handle;
      },
    });
    const first = sink.publish([delivery(0)], never);
    await eventually(async () => syncs === 1);
    const rest = Array.from({ length: 50 }, (_, at) => sink.publish([delivery(at + 1)], never));
    gate.give();
    await Promise.all([first, ...rest]);
    expect(syncs).toBe(2);
    expect(await numbersOf()).toEqual(Array.from({ length: 51 }, (_, at) => at));
  });

  it("goes on after a restart, and never touches what is there", async () => {
    const before = openSink({ path });
    await before.publish([delivery(1)], never);
    await before.close();
    const old = await readFile(path);
    await openSink({ path }).publish([delivery(2)], never);
    const now = await readFile(path);
    expect(now.subarray(0, old.length)).toEqual(old);
    expect(await numbersOf()).toEqual([1, 2]);
  });

  it("ends a line that a crash had cut off, wherever it was cut", async () => {
    await openSink({ path }).publish([delivery(1), delivery(2)], never);
    const whole = await readFile(path);
    const firstLine = whole.indexOf("\n") + 1;
    for (const cut of [firstLine + 1, firstLine + 40, whole.length - 2, whole.length - 1]) {
      await writeFile(path, whole);
      await truncate(path, cut);
      const sink = createFileSink({ path });
      await sink.publish([delivery(2), delivery(3)], never);
      await sink.close();
      // Cut right before its line feed the line was whole; the repeat carries the same key.
      expect(await numbersOf()).toEqual(cut === whole.length - 1 ? [1, 2, 2, 3] : [1, 2, 3]);
    }
  });

  it("is transient about a directory that is not there, and works once it is", async () => {
    const late = join(directory, "later");
    path = join(late, "events.jsonl");
    const sink = openSink({ path });
    await expect(sink.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
    await mkdir(late);
    await sink.publish([delivery(1)], never);
    expect(await numbersOf()).toEqual([1]);
  });

  it("keeps lines whole when two processes append to one file", async () => {
    const [one, two] = [openSink({ path }), openSink({ path })];
    const payload = JSON.stringify({ number: 1, text: "x".repeat(60_000) });
    const group = Array.from({ length: 40 }, (_, at) => delivery(at, { payload }));
    await Promise.all([1, 2, 3].flatMap(() => [one.publish(group, never), two.publish(group, never)]));
    expect(await numbersOf()).toHaveLength(240);
    expect(await linesOf()).toHaveLength(240);
  });

  it("sets a full file aside and goes on in a new one, with nothing lost between them", async () => {
    const sink = openSink({ path, maxBytes: 500 });
    for (let number = 0; number < 12; number += 1) await sink.publish([delivery(number)], never);
    const names = (await readdir(directory)).sort();
    expect(names.length).toBeGreaterThan(2);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(directory, name))).size));
    for (const size of sizes) expect(size).toBeLessThanOrEqual(500);
    const rotated = names.filter((name) => name !== "events.jsonl");
    for (const name of rotated) expect(name).toMatch(/^events\.jsonl\.[\dTZ-]+-\d{6}-[0-9a-f]{8}$/);
    const texts = await Promise.all(
      [...rotated, "events.jsonl"].map((name) => readFile(join(directory, name), "utf8")),
    );
    const numbers = texts
      .join("")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).event.number);
    expect(numbers).toEqual(Array.from({ length: 12 }, (_, at) => at));
  });

  it("takes an event larger than the limit all the same", async () => {
    const sink = openSink({ path, maxBytes: 10 });
    await sink.publish([delivery(1)], never);
    await sink.publish([delivery(2)], never);
    expect(await readdir(directory)).toHaveLength(2);
    expect(await numbersOf()).toEqual([2]);
  });

  it("follows a file that others have moved away or deleted", async () => {
    const sink = openSink({ path });
    await sink.publish([delivery(1)], never);
    await rename(path, `${path}.1`);
    await sink.publish([delivery(2)], never);
    expect(await numbersOf()).toEqual([2]);
    await rm(path);
    await sink.publish([delivery(3)], never);
    expect(await numbersOf()).toEqual([3]);
  });

  it("makes no file before there is something to write", async () => {
    const sink = openSink({ path });
    await sink.close();
    await expect(stat(path)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
