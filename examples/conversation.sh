#!/usr/bin/env bash
# A conversation with curl: create a chat, ask, read the status, list, ask the same again, change one's
# mind about question and answer, like it, delete.
# Usage: examples/conversation.sh [base URL] [token]
set -euo pipefail

base="${1:-http://127.0.0.1:8087}/v1"
auth="Authorization: Bearer ${2:-dev-token}"
json="Content-Type: application/json"

# Takes one string field out of a JSON answer.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

echo "# the models on offer"
curl -fsS "$base/models" -H "$auth"; echo

echo "# a new chat"
chat=$(curl -fsS "$base/chats" -H "$auth" -H "$json" -d '{"title":"Release notes"}' | field id)
echo "$chat"

echo "# a question; the answer streams in"
request=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)
body="{\"request_id\":\"$request\",\"content\":\"What makes a good release note?\"}"
curl -fsSN "$base/chats/$chat/messages:stream" -H "$auth" -H "$json" -d "$body"

echo "# how that turn ended"
curl -fsS "$base/chats/$chat/turns/$request" -H "$auth"; echo

echo "# the same request again is played from the store: no provider call, no charge"
curl -fsSN "$base/chats/$chat/messages:stream" -H "$auth" -H "$json" -d "$body"

echo "# the conversation so far, newest first"
curl -fsSG "$base/chats/$chat/messages" -H "$auth" -d limit=2 \
  --data-urlencode '$orderby=created_at desc' --data-urlencode '$select=role,content'; echo

echo "# another answer, please: the turn is replaced by a new one"
stream=$(curl -fsSN -X POST "$base/chats/$chat/turns/$request/retry" -H "$auth")
echo "$stream"
next=$(field request_id <<<"$stream")

echo "# another question in its place"
stream=$(curl -fsSN -X PATCH "$base/chats/$chat/turns/$next" -H "$auth" -H "$json" \
  -d '{"content":"What makes a bad one?"}')
echo "$stream"
next=$(field request_id <<<"$stream")
answer=$(field message_id <<<"$stream")

echo "# I like the answer"
curl -fsS -X PUT "$base/chats/$chat/messages/$answer/reaction" -H "$auth" -H "$json" -d '{"reaction":"like"}'; echo

echo "# the old question and answer are gone"
curl -fsS "$base/chats/$chat/messages?\$select=role,content,my_reaction" -H "$auth"; echo

echo "# take the turn back altogether"
curl -fsS -o /dev/null -w '%{http_code}\n' -X DELETE "$base/chats/$chat/turns/$next" -H "$auth"

echo "# what is left of the quota"
curl -fsS "$base/quota/status" -H "$auth"; echo

echo "# delete the chat"
curl -fsS -o /dev/null -w '%{http_code}\n' -X DELETE "$base/chats/$chat" -H "$auth"
