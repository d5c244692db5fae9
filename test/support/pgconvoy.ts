/* The built program, run as a user runs it: the commands, and `pgconvoy serve` beside a server. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { EmbeddedServer } from '../../src/demo/embedded-server.js';
import { cleanup, type TestScope } from './cleanup.js';
import { run, type RunOptions, type RunResult } from './tools.js';

export const PROGRAM = fileURLToPath(import.meta.resolve('#program/pgconvoy.js'));

const READY_TIMEOUT_MS = 20_000;
const LISTENING = /listening on (?:\[(::1)\]|(127\.0\.0\.1)):(\d+)/;

/** Runs `pgconvoy <args>` to its end. */
export function pgconvoy(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(process.execPath, [PROGRAM, ...args], options);
}

export interface Serve {
  /** A loopback address. */
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** What it has logged so far. */
  log(): string;
  /** SIGTERM, and its exit status. */
  stop(): Promise<number | null>;
}

/** `pgconvoy serve` beside a running server, on a free port; it ends with the test. */
export async function startServe(
  t: TestScope,
  server: EmbeddedServer,
  args: readonly string[] = [],
): Promise<Serve> {
  const { host, port, user, password, dataDirectory } = server;
  const conninfo = `host=${host} port=${port} user=${user} dbname=postgres`;
  const child = spawn(
    process.execPath,
    [PROGRAM, 'serve', '-D', dataDirectory, '-d', conninfo, '--listen', '127.0.0.1:0', ...args],
    { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, PGPASSWORD: password } },
  );
  let log = '';
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const stop = async (): Promise<number | null> => {
    child.kill('SIGTERM');
    return await exited;
  };
  cleanup(t, async () => {
    await stop();
  });
  const address = await new Promise<{ readonly host: string; readonly port: number }>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`serve is not listening:\n${log}`)), READY_TIMEOUT_MS);
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      const [found, ipv6, ipv4 = ''] = LISTENING.exec(log) ?? [];
      if (found === undefined) return;
      clearTimeout(timer);
      resolve({ host: ipv6 ?? ipv4, port: Number(/\d+$/.exec(found)?.[0]) });
    });
    void exited.then(() => reject(new Error(`serve ended:\n${log}`)));
  });
  return { ...address, pid: child.pid ?? 0, log: () => log, stop };
}
