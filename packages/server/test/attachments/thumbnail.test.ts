import { monitorEventLoopDelay } from "node:perf_hooks";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import type { Thumbnail } from "../../src/attachments/attachment.ts";
import { makeThumbnail, mayDecode } from "../../src/attachments/thumbnail.ts";
import { noLogger } from "../../src/telemetry/log.ts";

const limits = {
  width: 128,
  height: 128,
  max_bytes: 131_072,
  max_pixels: 100_000_000,
  max_decode_bytes: 33_554_432,
};

const make = (image: Buffer | null, more: Partial<typeof limits> = {}): Promise<Thumbnail | null> =>
  makeThumbnail(image, { ...limits, ...more }, noLogger);

type Format = "png" | "jpeg" | "webp" | "gif";

const picture = (width: number, height: number, format: Format = "png"): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: { r: 200, g: 30, b: 30 } } })
    .toFormat(format)
    .toBuffer();

/** Incompressible, so that no quality makes it small. */
const noise = (width: number, height: number): Promise<Buffer> => {
  const bytes = Buffer.alloc(width * height * 3);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = (at * 2_654_435_761) >>> 24;
  return sharp(bytes, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
};

describe("what a thumbnail is (attachments.md §9)", () => {
  test.each<[width: number, height: number, expected: [number, number]]>([
    [1_000, 500, [128, 64]],
    [500, 1_000, [64, 128]],
    [256, 256, [128, 128]],
    [128, 128, [128, 128]],
    [100, 40, [100, 40]],
    [1, 1, [1, 1]],
    [2_000, 1, [128, 1]],
  ])("%i×%i fits inside 128×128, is not cropped and never enlarged", async (width, height, expected) => {
    const thumbnail = await make(await picture(width, height));
    expect([thumbnail?.width, thumbnail?.height]).toEqual(expected);
  });

  test.each<Format>(["png", "jpeg", "webp", "gif"])("is WebP, made of %s", async (format) => {
    const thumbnail = await make(await picture(300, 200, format));
    const { format: made, width, height } = await sharp(thumbnail?.bytes).metadata();
    expect([made, width, height]).toEqual(["webp", 128, 85]);
  });

  test("is turned as EXIF says, and has no metadata of its image", async () => {
    const turned = await sharp(await picture(400, 200, "jpeg"))
      .withExif({ IFD0: { Copyright: "Ann", Make: "Camera of Ann" } })
      .withMetadata({ orientation: 6 })
      .toBuffer();
    const thumbnail = await make(turned);
    expect([thumbnail?.width, thumbnail?.height]).toEqual([64, 128]);
    const { exif, icc, xmp, orientation } = await sharp(thumbnail?.bytes).metadata();
    expect([exif, icc, xmp, orientation]).toEqual([undefined, undefined, undefined, undefined]);
    expect(thumbnail?.bytes.includes("Ann")).toBe(false);
  });

  test("is of the first frame", async () => {
    const frame = (red: number): Promise<Buffer> =>
      sharp({ create: { width: 64, height: 64, channels: 3, background: { r: red, g: 0, b: 0 } } })
        .png()
        .toBuffer();
    for (const format of ["gif", "webp"] as const) {
      const animated = await sharp([await frame(255), await frame(0)], { join: { animated: true } })
        .toFormat(format)
        .toBuffer();
      expect((await sharp(animated).metadata()).pages).toBe(2);
      const thumbnail = await make(animated);
      expect([thumbnail?.width, thumbnail?.height]).toEqual([64, 64]);
      const { channels } = await sharp(thumbnail?.bytes).stats();
      expect(channels[0]?.mean).toBeGreaterThan(200);
    }
  });
});

describe("what gets no thumbnail", () => {
  test("nothing, no image, half an image, an image beyond its header", async () => {
    const png = await noise(300, 300);
    const garbled = Buffer.concat([png.subarray(0, 60), Buffer.alloc(png.length, 7)]);
    for (const bytes of [null, Buffer.alloc(0), Buffer.from("text"), png.subarray(0, 40), garbled]) {
      expect(await make(bytes)).toBeNull();
    }
  });

  test("a picture of 100 megapixels in a megabyte, without its bitmap ever being made", async () => {
    const bomb = await picture(10_000, 10_000);
    expect(bomb.length).toBeLessThan(2_097_152);
    const before = process.memoryUsage.rss();
    expect(await make(bomb)).toBeNull();
    // The bitmap would be 300 MB.
    expect(process.memoryUsage.rss() - before).toBeLessThan(100 * 1_048_576);
  });

  test("more pixels than allowed, and a bitmap larger than allowed", async () => {
    const png = await picture(100, 100);
    expect(await make(png, { max_pixels: 9_999 })).toBeNull();
    expect(await make(png, { max_pixels: 10_000 })).not.toBeNull();
    expect(await make(png, { max_decode_bytes: 39_999 })).toBeNull();
    expect(await make(png, { max_decode_bytes: 40_000 })).not.toBeNull();
  });

  test("a thumbnail larger than allowed, after it was tried at lower quality", async () => {
    const image = await noise(128, 128);
    const sizes = await Promise.all(
      [80, 50, 25].map(async (quality) => (await sharp(image).webp({ quality }).toBuffer()).length),
    );
    const [first = 0, , last = 0] = sizes;
    expect(last).toBeLessThan(first);
    expect((await make(image))?.bytes.length).toBe(first);
    expect((await make(image, { max_bytes: last }))?.bytes.length).toBe(last);
    expect(await make(image, { max_bytes: last - 1 })).toBeNull();
  });
});

describe("which dimensions may be decoded", () => {
  const of = (format: "png" | "jpeg" | "webp", width: number, height: number, isProgressive = false) =>
    mayDecode({ format, width, height, isProgressive }, limits);

  test.each<[string, boolean, boolean]>([
    ["a PNG of 8.4 megapixels", of("png", 4_096, 2_048), true],
    ["a PNG of a row more", of("png", 4_096, 2_049), false],
    ["a WebP of 8.4 megapixels", of("webp", 4_096, 2_048), true],
    ["a WebP of 12 megapixels", of("webp", 4_000, 3_000), false],
    ["a phone's JPEG of 12 megapixels", of("jpeg", 4_000, 3_000), true],
    ["a JPEG of 100 megapixels", of("jpeg", 10_000, 10_000), true],
    ["a JPEG of more", of("jpeg", 10_001, 10_000), false],
    ["a progressive JPEG of 12 megapixels", of("jpeg", 4_000, 3_000, true), false],
    ["a JPEG as thin as a thumbnail", of("jpeg", 65_500, 200), false],
  ])("%s", (_name, allowed, expected) => {
    expect(allowed).toBe(expected);
  });
});

test("a phone's photo is shrunk while it is read, also when it has to be turned", async () => {
  const photo = await sharp(await picture(8_000, 6_000, "jpeg"))
    .withMetadata({ orientation: 6 })
    .toBuffer();
  const before = process.memoryUsage.rss();
  const thumbnail = await make(photo);
  expect([thumbnail?.width, thumbnail?.height]).toEqual([96, 128]);
  // The bitmap would be 144 MB.
  expect(process.memoryUsage.rss() - before).toBeLessThan(50 * 1_048_576);
});

test("the event loop goes on while images are decoded", async () => {
  const images = await Promise.all([1, 2, 3, 4].map(() => noise(2_000, 2_000)));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begin = performance.now();
  const made = await Promise.all(images.map((image) => make(image)));
  const elapsed = performance.now() - begin;
  delay.disable();
  expect(made.every((one) => one !== null)).toBe(true);
  // Decoding on this thread would stop it for all of that time.
  expect(delay.max / 1e6).toBeLessThan(elapsed / 2);
});
