import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createFileSink, type FileSinkOptions } from "../../src/outbox/file-sink.ts";
import type { Open } from "../../src/outbox/line-file.ts";
import type { Sink } from "../../src/outbox/sink.ts";
import { delivery, never } from "./deliveries.ts";
import { eventually } from "./support.ts";

let directory: string;
let path: string;
const sinks: Sink[] = [];
const openSink = (options: Partial<FileSinkOptions> = {}): Sink => {
  const sink = createFileSink({ path, ...options });
  sinks.push(sink);
  return sink;
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "file-sink-"));
  path = join(directory, "events.jsonl");
});
afterEach(async () => {
  await Promise.all(sinks.splice(0).map((sink) => sink.close()));
  await rm(directory, { recursive: true });
});

/** Lines of all files of the directory, those set aside first; the last of each may be without its end. */
const allLines = async (): Promise<string[]> => {
  const names = (await readdir(directory)).sort((a, b) => b.length - a.length || a.localeCompare(b));
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")));
  return texts.flatMap((text) => text.split("\n")).filter((line) => line !== "");
};

const numberIn = (line: string): number[] => {
  try {
    return [JSON.parse(line).event.number];
  } catch {
    return [];
  }
};

/** Opens files whose next write is done by `spoilt` instead. */
const spoiling = (spoilt: (write: () => Promise<unknown>, bytes: Buffer) => Promise<unknown>): Open => {
  let next = true;
  return async (name, flags) => {
    const handle = await open(name, flags);
    const write = handle.write.bind(handle);
    handle.write = ((bytes: Buffer) => {
      if (!next) return write(bytes);
      next = false;
      return spoilt(() => write(bytes), bytes);
    }) as typeof handle.write;
    return handle;
  };
};

/** As on a full disk: the first bytes are taken. */
const halfOf = (bytes: Buffer): Promise<unknown> =>
  appendFile(path, bytes.subarray(0, 30)).then(() => ({ bytesWritten: 30 }));

describe("file sink on a full disk", () => {
  it("leaves nothing of a group that was written in part, and is transient about it", async () => {
    await openSink().publish([delivery(1)], never);
    const sink = openSink({ open: spoiling((_, bytes) => halfOf(bytes)) });
    await expect(sink.publish([delivery(2), delivery(3)], never)).rejects.toMatchObject({
      name: "PublishError",
      kind: "transient",
    });
    expect((await allLines()).map((line) => JSON.parse(line).event.number)).toEqual([1]);
    await sink.publish([delivery(2), delivery(3)], never);
    expect((await allLines()).map((line) => JSON.parse(line).event.number)).toEqual([1, 2, 3]);
  });

  it("leaves no files behind that hold nothing", async () => {
    const sink = openSink({ open: spoiling((_, bytes) => halfOf(bytes)) });
    await expect(sink.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
    expect(await readdir(directory)).toEqual([]);
    await sink.publish([delivery(1)], never);
    expect(await readdir(directory)).toEqual(["events.jsonl"]);
  });

  it("takes nothing back that another process has written behind it", async () => {
    const other = '{"event":{"number":7}}\n';
    const sink = openSink({
      open: spoiling(async (_, bytes) => {
        const written = await halfOf(bytes);
        await appendFile(path, `\n${other}`);
        return written;
      }),
    });
    await expect(sink.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
    await sink.publish([delivery(1)], never);
    expect((await allLines()).flatMap(numberIn).sort()).toEqual([1, 7]);
  });

  it("names the reason of the system", async () => {
    const full = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    const sink = openSink({ open: spoiling(() => Promise.reject(full)) });
    await expect(sink.publish([delivery(1)], never)).rejects.toThrow(
      /^cannot write .*events\.jsonl \(ENOSPC\)$/,
    );
    await sink.publish([delivery(1)], never);
    expect((await allLines()).flatMap(numberIn)).toEqual([1]);
  });
});

describe("a file that several processes append to", () => {
  it("gets a group again that was written behind half a line of a process that died", async () => {
    const sink = openSink({
      open: spoiling(async (write) => {
        await appendFile(path, '{"queue":"usage","idempo');
        return write();
      }),
    });
    await sink.publish([delivery(1), delivery(2)], never);
    // Of the first run only its first line is spoilt.
    expect((await allLines()).flatMap(numberIn)).toEqual([2, 1, 2]);
  });

  it("gets a group again whose file was moved away while it was written", async () => {
    const sink = openSink({
      open: spoiling(async (write) => {
        await rename(path, `${path}.1`);
        return write();
      }),
    });
    await sink.publish([delivery(1)], never);
    expect((await readFile(path, "utf8")).split("\n").flatMap(numberIn)).toEqual([1]);
  });

  it("leaves events to their next attempt when their lines never stay whole", async () => {
    const sink = openSink({
      open: async (name, flags) => {
        const handle = await open(name, flags);
        const write = handle.write.bind(handle);
        handle.write = (async (bytes: Buffer) => {
          await appendFile(path, "half a line");
          return write(bytes);
        }) as typeof handle.write;
        return handle;
      },
    });
    await expect(sink.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
  });

  it("loses no line when two of them set it aside at the same time", async () => {
    const both = [openSink({ maxBytes: 2_000 }), openSink({ maxBytes: 2_000 })];
    await Promise.all(
      both.map(async (sink, who) => {
        for (let at = 0; at < 40; at += 1) await sink.publish([delivery(who * 100 + at)], never);
      }),
    );
    const lines = await allLines();
    expect(new Set(lines.map((line) => JSON.parse(line).event.number)).size).toBe(80);
  });

  it("has every event that counted, whole, however often they are killed", async () => {
    const worker = fileURLToPath(new URL("./file-sink-worker.ts", import.meta.url));
    const counted: number[] = [];
    const start = (first: number): ChildProcess => {
      const child = fork(worker, [path, "400000", String(first)]);
      child.on("message", (numbers: number[]) => counted.push(...numbers));
      return child;
    };
    const killed = async (child: ChildProcess): Promise<void> => {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    };
    let [one, two] = [start(0), start(1_000_000)];
    for (let round = 1; round <= 4; round += 1) {
      const enough = counted.length + 200;
      await eventually(async () => counted.length >= enough);
      await killed(one);
      [one, two] = [two, start(round * 2_000_000)];
    }
    await Promise.all([killed(one), killed(two)]);
    const found = new Set((await allLines()).flatMap(numberIn));
    expect(counted.filter((number) => !found.has(number))).toEqual([]);
    const sizes = await Promise.all(
      (await readdir(directory)).map(async (name) => (await stat(join(directory, name))).size),
    );
    expect(sizes.length).toBeGreaterThan(2);
  });
});
