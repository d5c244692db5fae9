/*
 * `pgconvoy serve`: options, log lines and signals; what it does is src/server/serve.ts.
 */
import { availableParallelism } from 'node:os';
import { Command, Option } from 'commander';
import { ConvoyError } from '../errors.js';
import { formatListenAddress, parseListenAddress, type ListenAddress } from '../server/listen-address.js';
import type { RunningServe } from '../server/serve.js';
import type { LogLevel, ServerLog } from '../server/server-log.js';
import type { TlsFiles } from '../server/tls-files.js';
import { connectionFrom } from './connection-options.js';
import { parseInteger } from './option-values.js';

interface ServeFlags {
  readonly pgdata: string;
  readonly dbname?: string;
  readonly listen: ListenAddress;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecure?: true;
  readonly maxConnections: number;
  readonly processes: number;
  readonly loginTimeout: number;
  readonly verbose?: true;
}

const MAX_CONNECTIONS = 10_000;
const MAX_PROCESSES = 1024;
/** Of authentication_timeout, seconds. */
const MAX_LOGIN_TIMEOUT = 600;

export function serveCommand(): Command {
  return new Command('serve')
    .description('serve the parallel backup commands for the PostgreSQL server on this machine')
    .requiredOption('-D, --pgdata <directory>', "the server's data directory")
    .option(
      '-d, --dbname <conninfo>',
      'how to reach the server, as a superuser; its other parts come from the environment',
    )
    .addOption(
      new Option('--listen <addr:port>', 'where to take connections')
        .default(parseListenAddress('127.0.0.1:5433'), '127.0.0.1:5433')
        .argParser(parseListenAddress),
    )
    .option('--tls-cert <file>', 'certificate chain (PEM) for TLS')
    .option('--tls-key <file>', 'private key (PEM) for TLS, readable by nobody else')
    .option('--insecure', 'listen beyond this machine without TLS')
    .addOption(numberOption('--max-connections <n>', 'most sessions at a time', 100, 1, MAX_CONNECTIONS))
    .addOption(
      numberOption(
        '--processes <n>',
        'processes that serve sessions (default: cores)',
        availableParallelism(),
        1,
        MAX_PROCESSES,
      ),
    )
    .addOption(
      numberOption('--login-timeout <seconds>', 'time that a client has to log in', 60, 1, MAX_LOGIN_TIMEOUT),
    )
    .option('-v, --verbose', 'log connections, too')
    .action((flags: ServeFlags) => serve(flags));
}

async function serve(flags: ServeFlags): Promise<void> {
  // a server that starts by itself has nobody to ask for a password
  const { connection } = await connectionFrom({ ...flags, password: false });
  const log = stderrLog(flags.verbose === true);
  // loaded when it is asked for: a backup starts the sooner
  const { startServe } = await import('../server/serve.js');
  const running = await startServe({
    dataDirectory: flags.pgdata,
    connection,
    listen: flags.listen,
    tls: tlsFiles(flags),
    allowInsecure: flags.insecure === true,
    maxConnections: flags.maxConnections,
    processCount: flags.processes,
    loginTimeoutMs: flags.loginTimeout * 1000,
    log,
  });
  process.stderr.write(`pgconvoy: listening on ${formatListenAddress(running.address)}\n`);
  await untilStopped(running, log);
}

/** Resolves after SIGTERM or SIGINT, when all sessions have ended; a second signal ends the process at once. */
async function untilStopped(running: RunningServe, log: ServerLog): Promise<void> {
  const signalled = new Promise<undefined>((resolve) => {
    let isFirst = true;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (!isFirst) {
          running.kill();
          process.exit(1);
        }
        isFirst = false;
        log('LOG', `received ${signal}, shutting down`);
        resolve(undefined);
      });
    }
  });
  const failure = await Promise.race([signalled, running.failed]);
  await running.stop();
  if (failure !== undefined) throw failure;
}

/** Both files or none. */
function tlsFiles({ tlsCert, tlsKey }: ServeFlags): TlsFiles | undefined {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert !== undefined && tlsKey !== undefined) return { certificateFile: tlsCert, keyFile: tlsKey };
  const [given, missing] = tlsCert === undefined ? ['--tls-key', '--tls-cert'] : ['--tls-cert', '--tls-key'];
  throw new ConvoyError('usage', `option ${given} needs ${missing}`);
}

function numberOption(
  flags: string,
  description: string,
  preset: number,
  least: number,
  most: number,
): Option {
  const name = flags.split(' ')[0] ?? flags;
  return new Option(flags, description).default(preset).argParser(parseInteger(name, least, most));
}

/** Lines as PostgreSQL's own log has them with log_line_prefix '%m [%p] '. */
function stderrLog(isVerbose: boolean): ServerLog {
  return (level: LogLevel, text: string) => {
    if (level === 'DEBUG' && !isVerbose) return;
    const time = new Date().toISOString().replace('T', ' ').replace('Z', ' UTC');
    const hasProcessId = /^\[\d+\] /.exec(text)?.[0];
    const prefix = hasProcessId ?? `[${process.pid}] `;
    process.stderr.write(`${time} ${prefix}${level}:  ${text.slice(hasProcessId?.length ?? 0)}\n`);
  };
}
