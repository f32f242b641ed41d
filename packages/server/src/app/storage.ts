import type { Config } from "../config/schema.ts";
import { openDatabase } from "../database.ts";
import { DirectConnection } from "../db/direct.ts";
import { removeInstance, renewInstance, startHeartbeat } from "../db/instances.ts";
import type { Db } from "../db/pool.ts";
import type { Logger } from "../telemetry/log.ts";
import { version } from "../version.ts";
import { closedOnce, type Opened } from "./shutdown.ts";

export interface Storage {
  readonly db: Db;
  readonly direct: DirectConnection;
}

/**
 * Steps 3–5 of the start (ops.md §3): the database at this program's schema, the dedicated connection,
 * and this process on the list of instances. Throws the errors of `openDatabase`.
 */
export const openStorage = async (
  config: Config,
  instanceId: string,
  logger: Logger,
  opened: Opened[],
): Promise<Storage> => {
  const database = await openDatabase(config, logger);
  opened.push(closedOnce({ name: "database", close: database.close }));
  const { db } = database;
  const direct = new DirectConnection({
    url: database.directUrl,
    onError: (error) => logger.warn({ err: error }, "direct database connection lost"),
  });
  opened.push({ name: "direct connection", close: () => direct.stop() });
  await direct.start();
  const instance = { id: instanceId, role: config.role, version };
  const leaseSecs = config.instance_lease_secs;
  await renewInstance(db, instance, leaseSecs);
  opened.push({ name: "instance", close: () => removeInstance(db, instanceId) });
  const heartbeat = startHeartbeat(db, instance, {
    leaseSecs,
    onError: (error) => logger.warn({ err: error }, "instance lease not renewed"),
  });
  opened.push({ name: "heartbeat", close: heartbeat.stop });
  return { db, direct };
};
