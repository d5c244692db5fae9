/* The connection options that PostgreSQL's programs share, resolved with the environment as libpq does. */
import { homedir, userInfo } from 'node:os';
import type { Command } from 'commander';
import { ConvoyError } from '../errors.js';
import {
  primaryConninfo,
  resolveConnectionSettings,
  type ConnectionSettings,
} from '../source/connection-settings.js';
import { canPrompt, promptPassword } from './password-prompt.js';

export interface ConnectionFlags {
  readonly dbname?: string;
  readonly host?: string;
  readonly port?: string;
  readonly username?: string;
  /** False after -w, true after -W. */
  readonly password?: boolean;
}

export interface ResolvedConnection {
  readonly connection: ConnectionSettings;
  readonly askPassword: (() => Promise<string>) | undefined;
  /** The connection string for a standby of this version, with the password where it has been asked for. */
  readonly primaryConninfo: (serverMajor: number) => string;
}

export function addConnectionOptions(command: Command): Command {
  return (
    command
      .optionsGroup('Connection options:')
      .option('-d, --dbname <connstr>', 'connection string')
      .option('-h, --host <hostname>', 'database server host or socket directory')
      .option('-p, --port <port>', 'database server port number')
      .option('-U, --username <name>', 'connect as specified database user')
      // in this order: declared first, --no-password would make the prompt the default
      .option('-W, --password', 'force password prompt (should happen automatically)')
      .option('-w, --no-password', 'never prompt for password')
  );
}

/** @throws ConvoyError `connection_settings` */
export async function connectionFrom(flags: ConnectionFlags): Promise<ResolvedConnection> {
  const request = {
    dbname: flags.dbname,
    host: flags.host,
    port: flags.port,
    user: flags.username,
    environment: process.env,
    homeDirectory: homedir(),
    osUser: osUser(),
  };
  const connection = resolveConnectionSettings(request);
  let askedPassword: string | undefined;
  const ask = async (): Promise<string> =>
    (askedPassword = await promptPassword(`Password for user ${connection.user}: `));
  const conninfo = (serverMajor: number): string => primaryConninfo(request, { serverMajor, askedPassword });
  if (flags.password === true) {
    const password = await ask();
    return {
      connection: { ...connection, password },
      askPassword: undefined,
      primaryConninfo: conninfo,
    };
  }
  const askPassword = flags.password === false || !canPrompt() ? undefined : ask;
  return { connection, askPassword, primaryConninfo: conninfo };
}

function osUser(): string {
  try {
    return userInfo().username;
  } catch {
    // a container may run as a user that has no name
    const name = process.env['USER'] ?? process.env['LOGNAME'];
    if (name !== undefined) return name;
    throw new ConvoyError('connection_settings', 'could not look up the name of the operating-system user', {
      hint: 'name the database user with -U',
    });
  }
}
