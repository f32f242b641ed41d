// The chat in the frame asks for a token, at the start and whenever one is refused.
const frame = document.querySelector("#chat");
const chatOrigin = new URL(frame.src).origin;

const freshToken = async () => {
  const answer = await fetch("/chat-token", { method: "POST" });
  return (await answer.json()).token;
};

window.addEventListener("message", async ({ data, origin, source }) => {
  // Anybody may send a message; only this very frame, still showing the chat, gets a token.
  if (origin !== chatOrigin || source !== frame.contentWindow) return;
  if (data?.type !== "mini-chat:token-request") return;
  const token = await freshToken();
  frame.contentWindow.postMessage({ type: "mini-chat:token", token }, chatOrigin);
});
