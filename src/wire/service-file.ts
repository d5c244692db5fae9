/*
 * Looks a service up in the connection service files, after parseServiceInfo and parseServiceFile of
 * src/interfaces/libpq/fe-connect.c (PostgreSQL 18). Called by conninfo-values.ts when a service is named. Unlike in
 * a connection string, the first value of an option counts.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConvoyError } from '../errors.js';
import { CONNECTION_OPTIONS } from './conninfo-options.js';

/** SYSCONFDIR of Debian's PostgreSQL, of the RPMs, and of a build from source. */
const SYSTEM_DIRECTORIES = ['/etc/postgresql-common', '/etc/sysconfig/pgsql', '/usr/local/pgsql/etc'];

/** parseServiceFile reads lines into a buffer of 1024 bytes and refuses one that fills it, newline included. */
const MAX_LINE_BYTES = 1022;

export interface ServiceFilePlaces {
  /** PGSERVICEFILE and PGSYSCONFDIR are read from it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where `.pg_service.conf` is; empty where there is none. */
  readonly homeDirectory: string;
}

/**
 * The options of the service by keyword, maybe empty values included: from PGSERVICEFILE, else
 * `~/.pg_service.conf`; where that has no such service, from `pg_service.conf` in PGSYSCONFDIR.
 *
 * @throws ConvoyError `connection_settings` for a service that is in none of them, a missing PGSERVICEFILE, a
 *   line that is no setting of a known option; names the file and the line, never what is in it
 */
export function findService(service: string, places: ServiceFilePlaces): Map<string, string> {
  for (const path of serviceFiles(places)) {
    const values = readService(path, service);
    if (values !== undefined) return values;
  }
  return fail(`definition of service "${service}" not found`);
}

function serviceFiles({ environment, homeDirectory }: ServiceFilePlaces): string[] {
  const own = environment['PGSERVICEFILE'];
  const files: string[] = [];
  if (own !== undefined && own !== '') {
    files.push(own); // must exist
  } else if (homeDirectory !== '') {
    files.push(...[join(homeDirectory, '.pg_service.conf')].filter((path) => existsSync(path)));
  }
  const systemDirectory = environment['PGSYSCONFDIR'];
  const systemDirectories =
    systemDirectory !== undefined && systemDirectory !== '' ? [systemDirectory] : SYSTEM_DIRECTORIES;
  const systemFile = systemDirectories
    .map((directory) => join(directory, 'pg_service.conf'))
    .find((path) => existsSync(path));
  if (systemFile !== undefined) files.push(systemFile);
  return files;
}

/** Undefined where the file has no section of this name. */
function readService(path: string, service: string): Map<string, string> | undefined {
  let values: Map<string, string> | undefined;
  let lineNumber = 0;
  for (const rawLine of readServiceFile(path).split('\n')) {
    lineNumber += 1;
    if (Buffer.byteLength(rawLine) >= MAX_LINE_BYTES) {
      fail(`line ${lineNumber} too long in service file "${path}"`);
    }
    const line = rawLine.replace(/^[ \t\v\f\r]+|[ \t\v\f\r]+$/g, '');
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) {
      if (values !== undefined) break; // the section ends
      if (line.startsWith(`[${service}]`)) values = new Map();
    } else if (values !== undefined) {
      readSetting(line, values, `service file "${path}", line ${lineNumber}`);
    }
  }
  return values;
}

function readServiceFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (thrown) {
    return fail(`service file "${path}" not found`, thrown);
  }
}

function readSetting(line: string, values: Map<string, string>, place: string): void {
  if (line.startsWith('ldap')) fail(`LDAP lookup is not supported in ${place}`);
  const [, keyword = '', value = ''] = /^([^=]*)=([^]*)$/.exec(line) ?? fail(`syntax error in ${place}`);
  if (keyword === 'service') fail(`nested service specifications not supported in ${place}`);
  if (!CONNECTION_OPTIONS.has(keyword)) fail(`syntax error in ${place}`);
  if (!values.has(keyword)) values.set(keyword, value);
}

function fail(message: string, cause?: unknown): never {
  throw new ConvoyError('connection_settings', message, { cause });
}
