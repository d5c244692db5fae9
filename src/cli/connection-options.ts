/* The connection options that PostgreSQL's programs share, resolved with the environment as libpq does. */
import { homedir, userInfo } from 'node:os';
import type { Command } from 'commander';
import { ConvoyError } from '../errors.js';
import { resolveConnectionSettings, type ConnectionSettings } from '../source/open-source.js';
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
  const connection = resolveConnectionSettings({
    dbname: flags.dbname,
    host: flags.host,
    port: flags.port,
    user: flags.username,
    environment: process.env,
    homeDirectory: homedir(),
    osUser: osUser(),
  });
  const ask = (): Promise<string> => promptPassword(`Password for user ${connection.user}: `);
  if (flags.password === true)
    return { connection: { ...connection, password: await ask() }, askPassword: undefined };
  return { connection, askPassword: flags.password === false || !canPrompt() ? undefined : ask };
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
