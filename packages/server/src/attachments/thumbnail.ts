import type { Metadata } from "sharp";
import type { Logger } from "../telemetry/log.ts";
import type { Thumbnail } from "./attachment.ts";

/** Knobs of the section `thumbnail` (attachments.md §9). */
export interface ThumbnailLimits {
  readonly width: number;
  readonly height: number;
  readonly max_bytes: number;
  readonly max_pixels: number;
  readonly max_decode_bytes: number;
}

/** The first, and two more for a thumbnail that is too large. */
const qualities = [80, 50, 25] as const;

/** A decoder that is at it for longer is stopped; in seconds. */
const timeLimitSecs = 10;

// Of the threads the whole process shares for files and names, each image takes one: others stay free.
const atOnce = 2;

/** Loaded with the first image: a process without any pays nothing, and one that cannot load it has no previews. */
const loadSharp = async () => {
  const { default: sharp } = await import("sharp");
  sharp.concurrency(1);
  sharp.cache(false);
  return sharp;
};

/**
 * A preview of an image, or null: whatever goes wrong with it never is the upload's fault
 * (attachments.md §9). Decoding happens on threads of the library's pool, not on this one.
 */
export const makeThumbnail = async (
  image: Buffer | null,
  limits: ThumbnailLimits,
  logger: Logger,
): Promise<Thumbnail | null> => {
  if (image === null) return null;
  try {
    return await inTurn(() => shrink(image, limits));
  } catch (error) {
    // What a decoder says may quote the file.
    logger.debug({ err: error, processing_stage: "upload" }, "no thumbnail");
    return null;
  }
};

let running = 0;
const waiting: (() => void)[] = [];

const inTurn = async <T>(work: () => Promise<T>): Promise<T> => {
  if (running >= atOnce) await new Promise<void>((resolve) => waiting.push(resolve));
  else running += 1;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  }
};

const shrink = async (image: Buffer, limits: ThumbnailLimits): Promise<Thumbnail | null> => {
  const sharp = await loadSharp();
  const options = { limitInputPixels: limits.max_pixels, sequentialRead: true, failOn: "error" } as const;
  const header = await sharp(image, options).metadata();
  if (!mayDecode(header, limits)) return null;
  for (const quality of qualities) {
    const { data, info } = await sharp(image, options)
      .timeout({ seconds: timeLimitSecs })
      .autoOrient()
      .resize({ width: limits.width, height: limits.height, fit: "inside", withoutEnlargement: true })
      .webp({ quality })
      .toBuffer({ resolveWithObject: true });
    if (data.length <= limits.max_bytes) return { bytes: data, width: info.width, height: info.height };
  }
  return null;
};

/** Bytes of a pixel in the bitmap a decoder makes. */
const pixelBytes = 4;
const jpegShrinks = [8, 4, 2] as const;

/** Whether an image of these dimensions may be decoded: by its pixels, and by the bitmap they become. */
export const mayDecode = (
  header: Pick<Metadata, "width" | "height" | "format" | "isProgressive">,
  limits: ThumbnailLimits,
): boolean => {
  const { width, height } = header;
  if (width * height > limits.max_pixels) return false;
  // A JPEG is halved while it is read; one that is progressive has to be held whole all the same.
  const shrinks = header.format === "jpeg" && header.isProgressive !== true;
  const by = shrinks ? (jpegShrinks.find((one) => isShrunk(header, limits, one)) ?? 1) : 1;
  return Math.ceil(width / by) * Math.ceil(height / by) * pixelBytes <= limits.max_decode_bytes;
};

/** The reduced image is still as large as the thumbnail, whichever way it is turned. */
const isShrunk = (
  { width, height }: { width: number; height: number },
  limits: ThumbnailLimits,
  by: number,
) => Math.min(width, height) / by >= Math.max(limits.width, limits.height);
