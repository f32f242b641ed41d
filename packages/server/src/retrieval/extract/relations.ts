import type { Archive } from "./archive.ts";
import type { ExtractionLimits } from "./limits.ts";
import { walkXml } from "./xml.ts";

/** Paths inside the archive by relationship id, of the part at `path`. */
export const relationsOf = (
  archive: Archive,
  path: string,
  limits: ExtractionLimits,
): ReadonlyMap<string, string> => {
  const slash = path.lastIndexOf("/");
  const folder = path.slice(0, slash);
  const targets = new Map<string, string>();
  walkXml(
    archive.get(`${folder}/_rels/${path.slice(slash + 1)}.rels`),
    {
      open: (name, { Id: id, Target: target, TargetMode: mode }) => {
        if (name !== "Relationship" || id === undefined || target === undefined || mode === "External")
          return;
        targets.set(id, resolved(folder, target));
      },
    },
    limits,
  );
  return targets;
};

/** `../notes/a.xml` seen from `ppt/slides` is `ppt/notes/a.xml`; a leading slash is the archive itself. */
const resolved = (folder: string, target: string): string => {
  const parts: string[] = [];
  for (const part of (target.startsWith("/") ? target : `${folder}/${target}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
};
