import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { multipartUpload } from "../../src/providers/storage/multipart.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test("a form lets go of every piece it has given away, while the upload goes on", async () => {
  const pieces: WeakRef<Uint8Array>[] = [];
  async function* source(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < 100; at += 1) {
      const piece = Buffer.alloc(10_000);
      pieces.push(new WeakRef(piece));
      yield piece;
    }
  }
  const form = multipartUpload(
    { name: "a.txt", contentType: "text/plain", stream: source() },
    { maxBytes: 10_000_000, onFailed: () => {} },
  );
  const reading = form.body[Symbol.asyncIterator]();
  for (let at = 0; at < 90; at += 1) await reading.next();
  // Twice: what only a promise of the last turn held is free in the next.
  for (let round = 0; round < 2; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
  }
  expect(pieces.filter((piece) => piece.deref() !== undefined).length).toBeLessThan(5);
  form.stop();
});
