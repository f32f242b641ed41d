import { asTenantId } from "../../src/auth/actor.ts";
import { Db } from "../../src/db/pool.ts";
import { startIndexer } from "../../src/retrieval/indexer.ts";
import { createLocalStorage } from "../../src/retrieval/local-storage.ts";
import { inPieces, mime } from "./support.ts";

/** A process that uploads a file, or uploads and indexes one, until it is killed. Run with `node`. */

const [url = "", tenant = "", chatId = "", attachmentId = "", mode = "", text = ""] = process.argv.slice(2);
const tenantId = asTenantId(tenant);
const context = { tenantId, correlationId: "victim" };
const db = new Db({
  url,
  maxConnections: 4,
  acquireTimeoutMs: 10_000,
  statementTimeoutMs: 15_000,
  lockTimeoutMs: 5_000,
  idleInTransactionTimeoutMs: 30_000,
});
const indexer = startIndexer(db, { onError: (error) => console.error(error) });
const storage = createLocalStorage({ db, indexer, providerId: "p", storageBackend: "local" });

async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) yield new Uint8Array(100_000).fill(0x61);
}

const { providerFileId } = await storage.files.upload(context, {
  name: `${chatId}_${attachmentId}.txt`,
  contentType: mime.txt,
  stream: mode === "upload" ? endless() : inPieces(Buffer.from(text.repeat(100_000))),
});
const storeId = await storage.stores.create(context);
await storage.stores.addFile(context, storeId, providerFileId, {});
