import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  open,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Account, canReach, EmbeddedError, ownName, serverAccount } from "./embedded-account.ts";
import { type Binaries, prepareBinaries } from "./embedded-binaries.ts";

const run = promisify(execFile);

/** Where clusters live when the server's account cannot reach the data directory. */
const sharedDir = "/var/lib/mini-chat";

/** An initialised PostgreSQL data directory and what is needed to run a server on it. */
export interface Cluster {
  /** Absolute, links resolved. */
  readonly dir: string;
  readonly account: Account | null;
  readonly binaries: Binaries;
}

/**
 * Opens the cluster of this data directory, making it when there is none. It becomes visible under its
 * name only when it is complete and on disk, so a crash on the way leaves nothing half made.
 */
export const openCluster = async (dataDir: string): Promise<Cluster> => {
  const link = join(dataDir, "cluster");
  if (existsSync(link)) {
    const dir = await realpath(link);
    const account = serverAccount(dir);
    const cluster = { dir, account, binaries: await prepareBinaries(join(dir, ".."), account) };
    if (!canReach(account, dir)) throw unreachable(dir);
    await writeAccess(cluster);
    return cluster;
  }
  if ((await lstat(link).catch(() => null)) !== null) {
    throw new EmbeddedError(`${link} points to a cluster that does not exist`);
  }
  const account = serverAccount(link);
  const homeDir = canReach(account, dataDir) ? dataDir : await makeSharedHome(account);
  const dir = join(homeDir, "cluster");
  const cluster = { dir, account, binaries: await prepareBinaries(homeDir, account) };
  await initialise(cluster, homeDir);
  if (homeDir !== dataDir) await symlink(dir, link);
  return cluster;
};

const unreachable = (dir: string): EmbeddedError =>
  new EmbeddedError(
    `PostgreSQL does not run as root, and the account it runs as may not pass the directories above ${dir}; ` +
      "start mini-chat as another user or set database.data_dir to a path open to all, e.g. /var/lib/mini-chat/data",
  );

/** A home of its own for a cluster whose data directory lies below, say, /root. */
const makeSharedHome = async (account: Account | null): Promise<string> => {
  await mkdir(sharedDir, { recursive: true });
  await chmod(sharedDir, 0o755);
  const dir = await mkdtemp(join(sharedDir, "data-"));
  await chmod(dir, 0o755);
  if (!canReach(account, dir)) throw unreachable(dir);
  return dir;
};

const initialise = async (cluster: Cluster, homeDir: string): Promise<void> => {
  const { binaries, account } = cluster;
  const unfinished = join(homeDir, "cluster.tmp");
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { mode: 0o700 });
  if (account !== null) await chown(unfinished, account.uid, account.gid);
  // The built-in locale needs nothing from the operating system and sorts alike everywhere. initdb's
  // own fsync stays on: it costs 0.1 s of 0.55 s, once.
  const args = [
    ...["-D", unfinished, "-U", "postgres", "--auth=peer", "--no-instructions"],
    ...["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
  ];
  await run(binaries.initdb, args, { ...account, env: { ...binaries.env }, cwd: "/" }).catch((cause) => {
    throw new EmbeddedError(`initdb failed: ${String((cause as { stderr?: unknown }).stderr ?? cause)}`, {
      cause,
    });
  });
  await writeAccess({ ...cluster, dir: unfinished });
  await rename(unfinished, cluster.dir);
  await syncDirectory(homeDir);
};

const syncDirectory = async (dir: string): Promise<void> => {
  const handle = await open(dir, "r");
  await handle.sync().finally(() => handle.close());
};

/**
 * Lets in whoever runs this process and nobody else, over the socket only: the kernel vouches for the
 * caller, so there is no password to keep, and none to hash at each connection.
 */
const writeAccess = async ({ dir, account }: Cluster): Promise<void> => {
  const files = {
    "pg_hba.conf": "local all all peer map=mini_chat\n",
    "pg_ident.conf": `mini_chat "${ownName()}" all\n`,
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(dir, name);
    await writeFile(path, text, { mode: 0o600 });
    if (account !== null) await chown(path, account.uid, account.gid);
  }
};
