/*
 * The ordinary account that PostgreSQL runs as where this process is root's: PostgreSQL refuses to run as root
 * (src/backend/main/main.c, check_root). Finds it, runs programs as it, and gives it what it must reach.
 */
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { removeAtExit } from './left-at-exit.js';

/** The ordinary account that servers run as when this process is root's. */
export interface ServerAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** sun_path holds 104 bytes on the BSDs and macOS, 108 on Linux; `/.s.PGSQL.65535.lock` is to fit. */
const SOCKET_DIRECTORY_LIMIT = 80;

/** The account to run PostgreSQL as when this process is root's, undefined when it can be run as is. */
export async function serverAccount(): Promise<ServerAccount | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const lines = (await fs.readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const fields = lines.find((line) => line[0] === name);
    const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])];
    if (uid > 0 && gid > 0) return { name, uid, gid };
  }
  throw new Error('PostgreSQL refuses to run as root, and there is no account "postgres" or "nobody"');
}

/** The environment without the PG* variables, which programs of PostgreSQL would obey, in plain English. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}

/** Spawn options by which the account, if there is one, runs a command: from a directory that it can enter. */
export function asAccount(account: ServerAccount | undefined) {
  const env = plainEnvironment();
  return account === undefined ? { cwd: '/', env } : { cwd: '/', env, uid: account.uid, gid: account.gid };
}

/** Whether the account can pass through every directory down to this one. */
export async function canEnter(directory: string, account: ServerAccount | undefined): Promise<boolean> {
  if (account === undefined) return true;
  for (let at = await fs.realpath(directory); ; at = path.dirname(at)) {
    const { mode, uid, gid } = await fs.stat(at);
    const bits = uid === account.uid ? mode >> 6 : gid === account.gid ? mode >> 3 : mode;
    if ((bits & 1) === 0) return false;
    if (at === path.dirname(at)) return true;
  }
}

/** A new directory below the system's temporary one that the account can enter, with a short name. */
export async function temporaryDirectory(account: ServerAccount | undefined, mode: number): Promise<string> {
  const short = tmpdir().length < SOCKET_DIRECTORY_LIMIT - 'pgconvoy-XXXXXX'.length;
  const parent = short && (await canEnter(tmpdir(), account)) ? tmpdir() : '/tmp';
  const directory = await fs.mkdtemp(path.join(parent, 'pgconvoy-'));
  await fs.chmod(directory, mode);
  if (account !== undefined) await fs.chown(directory, account.uid, account.gid);
  removeAtExit(directory);
  return directory;
}

/** Gives a tree, and what the links in its pg_tblspc lead to, to the account. */
export async function giveTree(tree: string, account: ServerAccount): Promise<void> {
  await fs.lchown(tree, account.uid, account.gid);
  for (const entry of await fs.readdir(tree, { recursive: true, withFileTypes: true })) {
    const at = path.join(entry.parentPath, entry.name);
    await fs.lchown(at, account.uid, account.gid);
    const tablespace = entry.isSymbolicLink() && path.basename(entry.parentPath) === 'pg_tblspc';
    if (tablespace) await giveTree(await fs.realpath(at), account);
  }
}

/** @throws Error where the account cannot pass down to this directory. */
export async function assertReach(directory: string, account: ServerAccount | undefined): Promise<void> {
  if (await canEnter(directory, account)) return;
  throw new Error(`account "${account?.name}", which runs PostgreSQL for root, cannot enter "${directory}"`);
}
