import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Secret } from "../../src/config/secret.ts";

export const tenant = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

type Node = Record<string, unknown>;

/** The least that is valid, with one entry in each list and map whose members have keys. */
export const leastConfig = (): Node => ({
  auth: { tokens: [{ token: "t", tenant_id: tenant, user_id: tenant }] },
  client_credentials: { client_id: "chat", client_secret: "secret" },
  plugins: { model_policy: { static: { model_catalog: [] } } },
  providers: { p: { kind: "openai_responses", host: "p.example", storage_kind: "openai" } },
});

/** `auth.tokens[].token` as the path of the entry `leastConfig` has. */
export const pathOf = (key: string): readonly string[] =>
  key.replace("<id>", "p").replace("<tenant_id>", tenant).replace("[]", ".0").split(".");

/** How a problem names the key. */
export const spelled = (key: string): string =>
  key.replace("<id>", "p").replace("<tenant_id>", tenant).replace("[]", "[0]");

const inside = (node: unknown, part: string): unknown =>
  typeof node === "object" && node !== null ? Reflect.get(node, part) : undefined;

export const valueAt = (tree: unknown, key: string): unknown => {
  const value = pathOf(key).reduce(inside, tree);
  return value instanceof Secret ? value.reveal() : value;
};

/** Sets a key in place, making the maps on the way. */
export const setKey = (tree: Node, key: string, value: unknown): void => {
  const path = pathOf(key);
  let node: object = tree;
  for (const part of path.slice(0, -1)) {
    if (inside(node, part) === undefined) Reflect.set(node, part, {});
    node = Object(inside(node, part));
  }
  Reflect.set(node, String(path.at(-1)), value);
};

export const removeKey = (tree: Node, key: string): void => {
  const path = pathOf(key);
  Reflect.deleteProperty(Object(path.slice(0, -1).reduce(inside, tree)), String(path.at(-1)));
};

/** `leastConfig` with these keys on top. */
export const configWith = (values: Readonly<Record<string, unknown>>): Node => {
  const tree = leastConfig();
  for (const [key, value] of Object.entries(values)) setKey(tree, key, value);
  return tree;
};

/** A file that is gone when the test is over. */
export const temporaryFile = (name: string, text: string): string => {
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-config-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, name);
  writeFileSync(file, text);
  return file;
};
