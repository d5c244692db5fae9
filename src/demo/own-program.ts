/*
 * This project's own command line as child processes: what the demo and the bench show and run is what a user
 * types. Passwords go through the environment, never through an argument, where every user of the machine sees them.
 */
import { fileURLToPath } from 'node:url';
import type { EmbeddedServer } from './embedded-server.js';
import { plainEnvironment } from './server-account.js';

/** The file behind the command `pgconvoy`. */
export const PROGRAM_FILE = fileURLToPath(import.meta.resolve('#program/pgconvoy.js'));

/** The environment without PG* variables of the user's own, and with the server's password. */
export function passwordEnvironment({ password }: Pick<EmbeddedServer, 'password'>): NodeJS.ProcessEnv {
  return { ...plainEnvironment(), PGPASSWORD: password };
}

/** A command as it can be pasted into a shell. */
export function shownCommand(name: string, args: readonly string[]): string {
  const words = args.map((word) =>
    /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`,
  );
  return [name, ...words].join(' ');
}
