/*
 * `pgconvoy serve`: puts the parallel backup commands in front of a stock PostgreSQL. The steps of its start, each one
 * call; called by cli/serve.ts.
 */
import { randomBytes } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ConvoyError, fileError } from '../errors.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { isLocal, type ListenAddress } from './listen-address.js';
import { Listener } from './listener.js';
import { attachCluster, type ServedCluster } from './served-cluster.js';
import { ServerAccess } from './server-access.js';
import type { ServerLog } from './server-log.js';
import { readTlsFiles, type TlsFiles } from './tls-files.js';

export interface ServeOptions {
  /** The data directory of the server that `connection` leads to. */
  readonly dataDirectory: string;
  readonly connection: ConnectionSettings;
  readonly listen: ListenAddress;
  /** Undefined: no TLS. */
  readonly tls: TlsFiles | undefined;
  /** Listen beyond this machine without TLS all the same. */
  readonly allowInsecure: boolean;
  readonly maxConnections: number;
  readonly processCount: number;
  /** For a client to log in, from its connection on. */
  readonly loginTimeoutMs: number;
  readonly log: ServerLog;
}

export interface RunningServe {
  readonly cluster: ServedCluster;
  /** With the real port. */
  readonly address: ListenAddress;
  /** Resolves where it cannot go on; it is to be stopped then. */
  readonly failed: Promise<ConvoyError>;
  /** Ends all sessions in order; a few seconds at most. */
  stop(): Promise<void>;
  /** Ends everything now. */
  kill(): void;
}

const SESSION_PROCESS = fileURLToPath(import.meta.resolve('#program/session-process.js'));

/** Resolves when clients can connect. @throws ConvoyError naming what stands in the way */
export async function startServe(options: ServeOptions): Promise<RunningServe> {
  const { connection, listen, log, loginTimeoutMs, maxConnections, processCount } = options;
  assertProtected(options);
  const tls = options.tls === undefined ? undefined : await readTlsFiles(options.tls);
  const cluster = await attach(await resolveDataDirectory(options.dataDirectory), connection);
  const settings = { cluster, connection, tls, mockSecret: randomBytes(32), loginTimeoutMs };
  const listener = await Listener.open({
    address: listen,
    maxConnections,
    processCount,
    sessionProcess: { entry: SESSION_PROCESS, settings },
    log,
  });
  return {
    cluster,
    address: listener.address,
    failed: listener.failed,
    stop: () => listener.stop(),
    kill: () => listener.kill(),
  };
}

function assertProtected({ listen, tls, allowInsecure }: ServeOptions): void {
  if (tls !== undefined || allowInsecure || isLocal(listen)) return;
  throw new ConvoyError('serve_refused', 'refusing to listen beyond this machine without TLS', {
    hint: 'give --tls-cert and --tls-key, or --insecure where the network is trusted',
  });
}

async function resolveDataDirectory(directory: string): Promise<string> {
  return realpath(directory).catch((error: unknown) => {
    throw fileError('access directory', directory, error);
  });
}

async function attach(dataDirectory: string, settings: ConnectionSettings): Promise<ServedCluster> {
  const access = new ServerAccess(settings);
  try {
    const connection = await access.shared();
    const cluster = await attachCluster(dataDirectory, connection);
    // what every login needs
    await connection.query('SELECT rolpassword FROM pg_catalog.pg_authid LIMIT 1');
    return cluster;
  } finally {
    await access.close();
  }
}
