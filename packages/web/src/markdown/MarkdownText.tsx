import { memo } from "react";
import Markdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { GuardedLink } from "./GuardedLink.tsx";
import { remarkMarkers } from "./markers.ts";
import { SourceMark } from "./SourceMark.tsx";
import { safeUrl } from "./safe-url.ts";

// Elements are named one by one; raw HTML stays text, and pictures would ask other sites for something.
const components: Components = {
  a: ({ href, children }) => <GuardedLink href={href}>{children}</GuardedLink>,
  img: ({ src, alt }) => (
    <GuardedLink href={typeof src === "string" ? src : undefined}>
      {alt === undefined || alt === "" ? "Picture" : alt}
    </GuardedLink>
  ),
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section className="table-scroll" tabIndex={0} aria-label="Table">
      <table>{children}</table>
    </section>
  ),
  cite: ({ children }) => <SourceMark text={String(children)} />,
  input: ({ checked }) => <input type="checkbox" checked={checked === true} disabled aria-label="Task" />,
};

const plugins = [remarkGfm, remarkMarkers];

/** One block of Markdown; parsed again only when its text changes. */
export const MarkdownText = memo(({ text }: { readonly text: string }) => (
  <Markdown remarkPlugins={plugins} components={components} urlTransform={safeUrl}>
    {text}
  </Markdown>
));
