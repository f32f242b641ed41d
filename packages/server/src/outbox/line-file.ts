import { randomBytes } from "node:crypto";
import { type FileHandle, open as openFile, rename, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Appending lines to a file that other processes append to as well, rotate and may leave half a line in.
 *
 * What makes a group of lines safe without a lock: it is written by one call, flushed, and then looked for.
 * It counts only when it stands whole behind a line end in the file that is at the path *after* the write.
 * Nothing is ever cut off a file that is still at the path, so what has counted stays.
 */

export type Open = (path: string, flags: string) => Promise<FileHandle>;

/** Runs of a group that another process spoils, before its events are left to their next attempt. */
const maxRuns = 5;

export interface LineFile {
  /** Resolves when the lines, each ended by a line feed, are on disk as they are. Throws otherwise. */
  append(lines: string): Promise<void>;
  close(): Promise<void>;
}

export interface LineFileOptions {
  readonly path: string;
  /** The file is set aside before it grows beyond this; infinite: never. */
  readonly maxBytes: number;
  readonly open: Open;
}

/** A file that is opened when it is needed; calls of `append` must not overlap. */
export const createLineFile = ({ path, maxBytes, open }: LineFileOptions): LineFile => {
  let handle: FileHandle | null = null;
  const close = async (): Promise<void> => {
    const old = handle;
    handle = null;
    await old?.close();
  };
  /** The file at the path with room for the bytes. */
  const withRoom = async (bytes: number): Promise<FileHandle> => {
    if (handle !== null && !(await isAt(path, handle))) await close();
    handle ??= await openForAppend(path, open);
    const { size } = await handle.stat();
    if (size > 0 && size + bytes > maxBytes) {
      await setAside(path);
      await close();
      handle = await openForAppend(path, open);
    }
    return handle;
  };
  return {
    append: async (lines) => {
      const bytes = Buffer.from(lines);
      try {
        for (let run = 0; run < maxRuns; run += 1) {
          if (await appended(await withRoom(bytes.length), path, bytes)) return;
        }
        throw new Error(`the lines did not stay whole in ${maxRuns} runs`);
      } catch (error) {
        // Opening again ends a line that is left open, and finds a disk that was replaced.
        await close().catch(() => {});
        throw error;
      }
    },
    close,
  };
};

/** Whether the bytes are on disk and will stay: see the head of this file. */
const appended = async (handle: FileHandle, path: string, bytes: Buffer): Promise<boolean> => {
  const { size: before } = await handle.stat();
  const { bytesWritten } = await handle.write(bytes);
  if (bytesWritten < bytes.length) {
    await takeBack(handle, path, before, bytesWritten);
    throw new Error(`wrote ${bytesWritten} of ${bytes.length} bytes`);
  }
  await handle.datasync();
  return (await standsWhole(handle, before, bytes)) && (await isAt(path, handle));
};

/** Whether the bytes stand behind a line end, or at the start of the file, where they were to be written. */
const standsWhole = async (handle: FileHandle, before: number, bytes: Buffer): Promise<boolean> => {
  const start = Math.max(0, before - 1);
  const { size } = await handle.stat();
  const tail = Buffer.alloc(Math.max(0, size - start));
  const { bytesRead } = await handle.read(tail, 0, tail.length, start);
  const found = tail.subarray(0, bytesRead);
  if (before === 0 && found.subarray(0, bytes.length).equals(bytes)) return true;
  return found.includes(Buffer.concat([lineFeed, bytes]));
};

const lineFeed = Buffer.from("\n");

/**
 * Cuts off what a full disk let through of a group. First the file is moved: whoever appends to it from
 * now on notices and appends again elsewhere, and whoever had appended before shows in its size.
 */
const takeBack = async (handle: FileHandle, path: string, before: number, written: number): Promise<void> => {
  if (written === 0) return;
  const aside = await setAside(path).catch(() => null);
  if (aside === null) return;
  const { size } = await handle.stat();
  if (size !== before + written) return;
  await handle.truncate(before);
  if (before === 0 && (await isAt(aside, handle))) await unlink(aside);
};

const openForAppend = async (path: string, open: Open): Promise<FileHandle> => {
  const handle = await open(path, "a+");
  try {
    const { size } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    if (size > 0 && !last.equals(lineFeed)) await handle.write(lineFeed);
    if (size === 0) await syncDirectory(dirname(path));
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
};

const nullIfMissing = (error: NodeJS.ErrnoException): null => {
  if (error.code === "ENOENT") return null;
  throw error;
};

const isAt = async (path: string, handle: FileHandle): Promise<boolean> => {
  const [own, there] = await Promise.all([handle.stat(), stat(path).catch(nullIfMissing)]);
  return there !== null && there.ino === own.ino && there.dev === own.dev;
};

let renamed = 0;

/**
 * Moves the file that is at the path; its new name, or null when there was none. Another process may be
 * doing the same: then it is the other's new file that is moved, which does no harm. A crash right after
 * leaves nothing to mend.
 */
const setAside = async (path: string): Promise<string | null> => {
  renamed += 1;
  const time = new Date().toISOString().replaceAll(/[:.]/g, "-");
  // Random, because a rename onto the same name would be the end of a file; pids repeat between containers.
  const aside = `${path}.${time}-${String(renamed).padStart(6, "0")}-${randomBytes(4).toString("hex")}`;
  const moved = await rename(path, aside).then(() => true, nullIfMissing);
  await syncDirectory(dirname(path));
  return moved === null ? null : aside;
};

/** A new name survives a crash of the machine only once its directory entry does. */
const syncDirectory = async (path: string): Promise<void> => {
  const directory = await openFile(path, "r");
  await directory.sync().finally(() => directory.close());
};
