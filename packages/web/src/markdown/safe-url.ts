const allowed = new Set(["http:", "https:", "mailto:"]);

/** The address if it may be a link; an empty text for scripts, data, files and addresses inside the page. */
export const safeUrl = (url: string): string => {
  if (!URL.canParse(url)) return "";
  const parsed = new URL(url);
  return allowed.has(parsed.protocol) && parsed.username === "" && parsed.password === "" ? parsed.href : "";
};

/** The name of the site a link leads to, as people know it. */
export const siteOf = (url: string): string =>
  URL.canParse(url) ? new URL(url).host.replace(/^www\./, "") : url;
