import { existsSync, readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

/** One file of the built page. */
export interface Asset {
  readonly type: string;
  readonly body: Buffer;
  /** Compressed at the first call, then kept; null where that saves nothing. */
  gzipped(): Promise<Buffer | null>;
}

export interface BuiltPage {
  /** `index.html` as built. */
  readonly index: string;
  /** By file name; the names carry a hash of what is in them. */
  readonly assets: ReadonlyMap<string, Asset>;
}

const types: Readonly<Record<string, string>> = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".woff2": "font/woff2",
};

const compressible = new Set([".js", ".css", ".svg"]);

/** Where `npm run build` leaves the page. */
export const pageDirectory = fileURLToPath(new URL("../../../web/dist", import.meta.url));

export const isPageBuilt = (): boolean => existsSync(join(pageDirectory, "index.html"));

const compress = promisify(gzip);

const assetOf = (file: string): Asset => {
  const extension = extname(file);
  const body = readFileSync(file);
  let compressed: Promise<Buffer | null> | undefined;
  return {
    type: types[extension] ?? "application/octet-stream",
    body,
    gzipped: () => {
      compressed ??= compressible.has(extension) ? compress(body, { level: 9 }) : Promise.resolve(null);
      return compressed;
    },
  };
};

/** Reads the built page into memory, where a later build cannot mix into it; null when there is none. */
export const readBuiltPage = (directory: string): BuiltPage | null => {
  const index = join(directory, "index.html");
  if (!existsSync(index)) return null;
  const folder = join(directory, "assets");
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return {
    index: readFileSync(index, "utf8"),
    assets: new Map(names.map((name) => [name, assetOf(join(folder, name))])),
  };
};
