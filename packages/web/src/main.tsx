import { createRoot } from "react-dom/client";
import { AppProvider } from "./app/context.ts";
import { createApp } from "./app/create-app.ts";
import { Page } from "./app/Page.tsx";
import { provideNonce } from "./settings.ts";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/shell.css";
import "./styles/conversation.css";
import "./styles/composer.css";
import "./styles/markdown.css";

provideNonce();
const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <AppProvider value={createApp()}>
      <Page />
    </AppProvider>,
  );
}
