/*
 * Looks a password up in the password file (~/.pgpass), after passwordFromFile of
 * src/interfaces/libpq/fe-connect.c. Called before a connection is opened. The npm package pgpass cannot do it:
 * it takes the path and PGPASSWORD from process.env, prints its warnings, and knows no socket directories.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { DEFAULT_SOCKET_DIRECTORIES } from './conninfo-options.js';
import type { ConnectionSettings } from './conninfo.js';

export interface PasswordLookup {
  readonly password?: string;
  /** To be shown to the user: why the file was ignored. */
  readonly warning?: string;
}

const GROUP_OR_WORLD = 0o077;

/**
 * The password of the settings, else the one in the password file. A file that is not there is no error. A
 * replication connection is looked up as database "replication", any other by its database, else its user.
 */
export function lookupPassword(
  settings: ConnectionSettings,
  { replication }: { readonly replication: boolean },
): PasswordLookup {
  if (settings.password !== undefined) return { password: settings.password };
  if (settings.passfile === undefined) return {};
  const file = readPasswordFile(settings.passfile);
  if ('warning' in file) return file;
  const host = DEFAULT_SOCKET_DIRECTORIES.includes(settings.host) ? 'localhost' : settings.host;
  const database = replication ? 'replication' : (settings.database ?? settings.user);
  const password = findPassword(file.text, [host, String(settings.port), database, settings.user]);
  return password === undefined || password === '' ? {} : { password };
}

function readPasswordFile(path: string): { text: string } | { warning: string } {
  let file: number;
  try {
    // Not to block where it is a FIFO.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return { text: '' };
  }
  try {
    const status = fstatSync(file);
    if (!status.isFile()) return { warning: `password file "${path}" is not a plain file` };
    if ((status.mode & GROUP_OR_WORLD) !== 0) {
      return {
        warning: `password file "${path}" has group or world access; permissions should be u=rw (0600) or less`,
      };
    }
    return { text: readFileSync(file, 'utf8') };
  } finally {
    closeSync(file);
  }
}

/** The password of the first line that matches, maybe empty. */
function findPassword(text: string, wanted: readonly string[]): string | undefined {
  for (const rawLine of text.split('\n')) {
    if (rawLine.startsWith('#')) continue;
    const line = rawLine.replace(/\r+$/, '');
    let at: number | undefined = 0;
    for (const value of wanted) {
      if (at !== undefined) at = skipField(line, at, value);
    }
    if (at === undefined) continue;
    const password = /(?:\\[^]|[^:])*/y;
    password.lastIndex = at;
    return (password.exec(line)?.[0] ?? '').replace(/\\([^])/g, '$1');
  }
  return undefined;
}

/**
 * Where the next field begins if the one at `start` stands for `value`, else undefined. After pwdfMatchesString:
 * a colon ends the field only once the value is complete, so an IPv6 address may be written without backslashes.
 */
function skipField(line: string, start: number, value: string): number | undefined {
  if (line.startsWith('*:', start)) return start + 2;
  let at = start;
  for (const character of value) {
    if (line[at] === '\\') at += 1;
    if (!line.startsWith(character, at)) return undefined;
    at += character.length;
  }
  return line[at] === ':' ? at + 1 : undefined;
}
