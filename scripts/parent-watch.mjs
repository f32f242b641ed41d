// Loaded into the server that `start.mjs` had to start as a child: a server whose launcher was killed
// drains and stops too, instead of living on unseen.
process.once("disconnect", () => process.kill(process.pid, "SIGTERM"));
process.channel?.unref();
