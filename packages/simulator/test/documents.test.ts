import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Simulator } from "../src/index.ts";
import { add, createStore, upload, uploadTo } from "./storage-support.ts";
import { ask, at, finalOf, post, readEvents, send, simulatorFor } from "./support.ts";

/** A PDF of one page that says this, its content compressed. */
const pdf = (text: string): Buffer => {
  const content = deflateSync(Buffer.from(`BT /F1 12 Tf 72 700 Td (${text}) Tj ET`));
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
    Buffer.concat([
      Buffer.from(`<< /Length ${content.length} /Filter /FlateDecode >>\nstream\n`),
      content,
      Buffer.from("\nendstream"),
    ]),
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
  ];
  const parts: Buffer[] = [Buffer.from("%PDF-1.4\n")];
  const offsets = objects.map((object, n) => {
    const offset = Buffer.concat(parts).length;
    parts.push(Buffer.from(`${n + 1} 0 obj\n`), Buffer.from(object), Buffer.from("\nendobj\n"));
    return offset;
  });
  const start = Buffer.concat(parts).length;
  const rows = offsets.map((offset) => `${String(offset).padStart(10, "0")} 00000 n \n`).join("");
  parts.push(
    Buffer.from(
      `xref\n0 6\n0000000000 65535 f \n${rows}trailer << /Size 6 /Root 1 0 R >>\nstartxref\n${start}\n%%EOF`,
    ),
  );
  return Buffer.concat(parts);
};

const uploadPdf = async (simulator: Simulator, text: string): Promise<string> => {
  const form = new FormData();
  form.set("purpose", "assistants");
  form.set("file", new Blob([new Uint8Array(pdf(text))], { type: "application/pdf" }), "chat_a.pdf");
  const response = await fetch(`${simulator.url}/v1/files`, { method: "POST", body: form });
  return String(at(await response.json(), "id"));
};

const answerTo = async (simulator: Simulator, question: string, store: string | null) => {
  const tools = store === null ? [] : [{ type: "file_search", vector_store_ids: [store] }];
  const response = await post(simulator, "/v1/responses", ask(question, { tools }));
  const final = finalOf(readEvents(Buffer.from(await response.arrayBuffer())));
  const output = Array.isArray(final["output"]) ? final["output"] : [];
  return { search: at(output, 0), part: at(output.at(-1), "content", 0) };
};

describe("questions about documents", () => {
  const facts = "The warranty lasts five years. Returns are free of charge. Our office is in Oslo.";

  test.each(["How long does the warranty last?", "FILESEARCH: how long is the warranty"])(
    "%s: the sentence that fits, with its file cited",
    async (question) => {
      const simulator = await simulatorFor();
      const store = await createStore(simulator);
      await add(simulator, store, await upload(simulator, "Cats sleep a lot."));
      const file = await upload(simulator, facts);
      await add(simulator, store, file);
      const { search, part } = await answerTo(simulator, question, store);
      const excerpt = "The warranty lasts five years.";
      const answer = `Your document says: "${excerpt}"`;
      expect(part).toMatchObject({
        text: answer,
        annotations: [
          {
            type: "file_citation",
            file_id: file,
            filename: "a.txt",
            index: answer.length - 1,
            text: excerpt,
          },
        ],
      });
      expect(search).toMatchObject({
        type: "file_search_call",
        status: "completed",
        results: [{ file_id: file, text: excerpt }],
      });
    },
  );

  test("a PDF is read", async () => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    const file = await uploadPdf(simulator, "The meeting is at noon.");
    await add(simulator, store, file);
    for (const question of ["When is the meeting?", "Summarize this PDF"]) {
      const { part } = await answerTo(simulator, question, store);
      expect(part).toMatchObject({
        text: 'Your document says: "The meeting is at noon."',
        annotations: [{ file_id: file }],
      });
    }
  });

  test("a file that only says it is a PDF is kept, and nothing in it is found", async () => {
    const simulator = await simulatorFor();
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob(["meeting"], { type: "application/pdf" }), "x.pdf");
    const response = await fetch(`${simulator.url}/v1/files`, { method: "POST", body: form });
    expect(response.status).toBe(200);
    const store = await createStore(simulator);
    await add(simulator, store, String(at(await response.json(), "id")));
    const { part } = await answerTo(simulator, "meeting", store);
    expect(part).toMatchObject({ text: "Hello from the simulator.", annotations: [] });
  });

  test("what no document says, is not offered or still being indexed is answered as ever", async () => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    await add(simulator, store, await upload(simulator, facts));
    for (const [question, offered] of [
      ["hi", store],
      ["How long does the warranty last?", null],
    ] as const) {
      expect((await answerTo(simulator, question, offered)).part).toMatchObject({
        text: "Hello from the simulator.",
      });
    }
    simulator.setState({ indexing: { status: "completed", polls: 9 } });
    const slow = await createStore(simulator);
    await add(simulator, slow, await upload(simulator, facts));
    expect((await answerTo(simulator, "warranty", slow)).part).toMatchObject({
      text: "Hello from the simulator.",
    });
  });
});

describe("what lies at the provider", () => {
  test("is listed, by function and over HTTP", async () => {
    const simulator = await simulatorFor();
    const [file, store] = [await upload(simulator, "abc", "c_a.txt"), await createStore(simulator)];
    await add(simulator, store, file);
    const held = {
      files: [{ id: file, filename: "c_a.txt", bytes: 3 }],
      vector_stores: [{ id: store, files: [file] }],
    };
    expect(simulator.held()).toEqual(held);
    expect(await (await fetch(`${simulator.url}/__sim/held`)).json()).toEqual(held);
    await send(simulator, "DELETE", `/v1/files/${file}`);
    expect(simulator.held()).toEqual({ files: [], vector_stores: [{ id: store, files: [] }] });
  });
});

describe("faults", () => {
  test("429 with Retry-After", async () => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { upload: { times: 1, status: 429, retry_after: 3 } } });
    const response = await uploadTo(simulator, "x");
    expect([response.status, response.headers.get("retry-after")]).toEqual([429, "3"]);
  });

  test.each([
    ["upload", 1],
    ["store_creation", 0],
  ] as const)("after: a lost answer of %s, whose effect stays", async (operation, files) => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { [operation]: { times: 1, status: "drop", after: true } } });
    const call = operation === "upload" ? uploadTo(simulator, "x") : post(simulator, "/v1/vector_stores", {});
    await expect(call).rejects.toThrow();
    expect(simulator.state()).toMatchObject({ files, vector_stores: 1 - files });
  });

  test.each([
    ["file_deletion", "/v1/files/f"],
    ["store_deletion", "/v1/vector_stores/v"],
    ["removal", "/v1/vector_stores/v/files/f"],
  ])("%s comes before deletion", async (operation, path) => {
    const simulator = await simulatorFor();
    simulator.setState({
      fail: { [operation]: { times: 1, status: 403 }, deletion: { times: 1, status: 409 } },
    });
    const remove = async (): Promise<unknown> => (await send(simulator, "DELETE", path)).status;
    expect([await remove(), await remove(), await remove()]).toEqual([403, 409, 200]);
  });

  test.each([
    ["poll", "/v1/vector_stores/v/files/f", 404],
    ["list", "/v1/files", 200],
    ["list", "/v1/vector_stores", 200],
  ] as const)("%s of %s", async (operation, path, otherwise) => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { [operation]: { times: 1, status: 503 } } });
    const read = async (): Promise<number> => (await fetch(`${simulator.url}${path}`)).status;
    expect([await read(), await read()]).toEqual([503, otherwise]);
  });
});

describe("passages a request brings along", () => {
  const textOf = async (simulator: Simulator, before: string, question: string): Promise<unknown> => {
    const texts = [before, question];
    const input = texts.map((text) => ({ role: "user", content: [{ type: "input_text", text }] }));
    const response = await post(simulator, "/v1/responses", { model: "m", stream: true, input });
    const final = finalOf(readEvents(Buffer.from(await response.arrayBuffer())));
    return at(final, "output", 0, "content", 0, "text");
  };
  const passages = [
    "Passages of documents.",
    '[cite:1] "lease.txt", lines 1–2\n> The lease ends in March.\n> Bring cake.',
    '[cite:2] "other.txt", line 1\n> Nothing here.',
  ].join("\n\n");

  test("are answered from, the best first, with the marker behind what is taken", async () => {
    const simulator = await simulatorFor();
    expect(await textOf(simulator, passages, "When does the lease end?")).toBe(
      'Your document says: "The lease ends in March." [cite:1]',
    );
  });

  test("are none when the message before says something else", async () => {
    const simulator = await simulatorFor();
    expect(await textOf(simulator, "> quoted, see [cite:1] there", "Hi")).toBe("Hello from the simulator.");
  });
});
