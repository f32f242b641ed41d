/**
 * A question about a file: uploaded with its progress, then named in the message.
 *
 * Usage: npx node examples/client-upload.ts [base URL] [token] [file]
 */
import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { createClient, hasCode } from "../packages/client/src/index.ts"; // installed: "@mini-chat/client"

const [, , baseUrl = "http://127.0.0.1:8087", token = "dev-token", path = import.meta.filename] =
  process.argv;
const client = createClient({ baseUrl, token });
const chat = await client.chats.create({ title: "About a file" });
try {
  const uploaded = await client.attachments.upload(chat.id, await openAsBlob(path, { type: "text/plain" }), {
    filename: `${basename(path)}.txt`,
    onProgress: ({ sent, total }) => console.log(`${Math.round((100 * sent) / total)} %`),
  });
  const file = await client.attachments.settled(chat.id, uploaded.id);
  console.log(`${file.filename}: ${file.status}`);
  const turn = client.send(chat.id, { content: "What is in it?", attachment_ids: [file.id] });
  const { state, text, citations } = await turn.result();
  console.log(`${state}: ${text}`);
  for (const { title } of citations) console.log(`see ${title}`);
} catch (error) {
  if (!hasCode(error, "unsupported_file_type") && !hasCode(error, "file_too_large")) throw error;
  console.log(error.problem.detail);
} finally {
  await client.chats.remove(chat.id);
}
