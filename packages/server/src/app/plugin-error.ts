/** The configuration names a plugin that nobody registered or that cannot be loaded; says the key. */
export class PluginError extends Error {
  override name = "PluginError";
}
