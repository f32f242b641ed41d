import type { Simulator } from "../src/index.ts";
import { at, object, post } from "./support.ts";

export const uploadTo = async (
  simulator: Simulator,
  content: string | Uint8Array,
  name = "a.txt",
): Promise<Response> => {
  const form = new FormData();
  form.set("purpose", "assistants");
  form.set("file", new Blob([Buffer.from(content)], { type: "text/plain" }), name);
  return fetch(`${simulator.url}/v1/files`, { method: "POST", body: form });
};

export const upload = async (
  simulator: Simulator,
  content: string | Uint8Array,
  name?: string,
): Promise<string> => String(at(await (await uploadTo(simulator, content, name)).json(), "id"));

export const createStore = async (simulator: Simulator): Promise<string> =>
  String(at(await (await post(simulator, "/v1/vector_stores", {})).json(), "id"));

export const add = async (
  simulator: Simulator,
  store: string,
  file: string,
  attributes: object = {},
): Promise<Record<string, unknown>> => {
  const response = await post(simulator, `/v1/vector_stores/${store}/files`, { file_id: file, attributes });
  return { status_code: response.status, ...object(await response.json()) };
};
