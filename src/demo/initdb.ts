/* Runs initdb for a new cluster; called by EmbeddedServer.create. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { PostgresBinaries } from './postgres-binaries.js';
import { asAccount, type ServerAccount } from './server-account.js';

export interface CreateOptions {
  readonly binaries: PostgresBinaries;
  /** The server's own directory, absent or empty: `data` and `server.log` go into it. */
  readonly directory: string;
  readonly initdbArguments?: readonly string[];
  /** Page checksums, on unless false. */
  readonly dataChecksums?: boolean;
  /** Appended to postgresql.conf, so that a restored backup has them too. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Lines put before those of initdb in pg_hba.conf. */
  readonly hba?: readonly string[];
}

/** What every server here has unless told otherwise. */
export const DEFAULT_SETTINGS: Readonly<Record<string, string>> = {
  fsync: 'off',
  wal_level: 'replica',
  max_wal_senders: '20',
  // A backup that fetches its WAL at the end needs what checkpoints would have removed meanwhile.
  wal_keep_size: '1GB',
};

/** Settings as lines of postgresql.conf. */
function settingLines(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'\n`)
    .join('');
}

/** @throws Error when initdb fails, with what it says. */
export async function initdb(
  options: CreateOptions,
  account: ServerAccount | undefined,
  dataDirectory: string,
  secretDirectory: string,
  password: string,
): Promise<void> {
  const { binaries, dataChecksums = true } = options;
  const passwordFile = path.join(secretDirectory, 'password');
  await fs.writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (account !== undefined) await fs.chown(passwordFile, account.uid, account.gid);
  // initdb turned page checksums on by default in 18, and got the switch to leave them off with that.
  const checksums = dataChecksums
    ? ['--data-checksums']
    : binaries.major >= 18
      ? ['--no-data-checksums']
      : [];
  const flags = [
    '-D',
    dataDirectory,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
  ];
  flags.push('--encoding=UTF8', '--locale=C', '--no-sync', ...checksums, ...(options.initdbArguments ?? []));
  try {
    await promisify(execFile)(path.join(binaries.bin, 'initdb'), flags, asAccount(account));
  } finally {
    await fs.rm(passwordFile);
  }
  const settings = settingLines({ ...DEFAULT_SETTINGS, ...options.settings });
  await fs.appendFile(path.join(dataDirectory, 'postgresql.conf'), settings);
  if (options.hba !== undefined) {
    const file = path.join(dataDirectory, 'pg_hba.conf');
    await fs.writeFile(file, `${options.hba.join('\n')}\n${await fs.readFile(file, 'utf8')}`);
  }
}
