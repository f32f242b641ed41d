/** Which paths exist with which methods: tells an unknown route from a wrong method (api.md §1.1). */
export interface RouteTable {
  add(method: string, pattern: string): void;
  /** Methods of the routes this path matches, sorted; empty for an unknown path. */
  methodsFor(path: string): readonly string[];
}

// `::` is a literal colon, `:name` one non-empty segment.
const toRegExp = (pattern: string): RegExp => {
  const source = pattern
    .split(/(::|:\w+)/)
    .map((part) => {
      if (part === "::") return ":";
      return part.startsWith(":") ? "[^/]+" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    })
    .join("");
  return new RegExp(`^${source}$`);
};

// As the router does: escapes of reserved characters stay.
const decoded = (path: string): string => {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
};

export const createRouteTable = (): RouteTable => {
  const methods = new Map<string, Set<string>>();
  const patterns = new Map<string, RegExp>();
  return {
    add: (method, pattern) => {
      patterns.set(pattern, toRegExp(pattern));
      methods.set(pattern, (methods.get(pattern) ?? new Set()).add(method));
    },
    methodsFor: (path) => {
      const plain = decoded(path);
      const found = new Set<string>();
      for (const [pattern, regExp] of patterns) {
        if (!regExp.test(plain)) continue;
        for (const method of methods.get(pattern) ?? []) found.add(method);
      }
      return [...found].sort();
    },
  };
};
