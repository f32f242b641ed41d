#!/usr/bin/env bash
# Files in a chat with curl: upload a PDF, ask about it, read the answer with what it cites; show a picture;
# have a spreadsheet computed with; delete all of it.
# Usage: examples/files.sh [base URL] [token] [URL of the simulator]
# With a simulator in the place of the model provider it also shows that nothing is left there.
set -euo pipefail

base="${1:-http://127.0.0.1:8087}/v1"
auth="Authorization: Bearer ${2:-dev-token}"
simulator="${3:-}"
json="Content-Type: application/json"
files="$(dirname "$0")/files"

# Takes one string field out of a JSON answer.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

upload() { curl -fsS "$base/chats/$chat/attachments" -H "$auth" -F "file=@$files/$1;type=$2"; }

ask() {
  curl -fsSN "$base/chats/$chat/messages:stream" -H "$auth" -H "$json" -d "$1"
}

held() { curl -fsS "$simulator/__sim/held"; }
before=$([[ -n $simulator ]] && held || true)

chat=$(curl -fsS "$base/chats" -H "$auth" -H "$json" -d '{"title":"The workshop"}' | field id)

echo "# a document: it is searched in every later turn"
upload lease.pdf application/pdf; echo

echo "# a question about it; the answer cites the file"
ask '{"content":"When does the lease end?"}'

echo "# a picture: it belongs to the message that names it"
picture=$(upload chart.png image/png)
echo "$picture"
ask "{\"content\":\"What does the chart show?\",\"attachment_ids\":[\"$(field id <<<"$picture")\"]}"

echo "# a spreadsheet: the model computes with it"
upload budget.xlsx application/vnd.openxmlformats-officedocument.spreadsheetml.sheet; echo
ask '{"content":"CODEINTERP: what do the items cost together?"}'

echo "# a picture that was sent cannot be deleted by itself"
curl -sS -o /dev/null -w '%{http_code}\n' -X DELETE "$base/chats/$chat/attachments/$(field id <<<"$picture")" -H "$auth"

echo "# what was said, with its files"
curl -fsS "$base/chats/$chat/messages?\$select=role,content,attachments" -H "$auth"; echo

echo "# delete the chat, and with it the files at the provider"
curl -fsS -o /dev/null -w '%{http_code}\n' -X DELETE "$base/chats/$chat" -H "$auth"

if [[ -n $simulator ]]; then
  echo "# nothing of it is left there"
  for _ in $(seq 100); do
    if [[ $(held) == "$before" ]]; then break; fi
    sleep 0.1
  done
  held; echo
fi
