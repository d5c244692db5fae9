/* The kind of source that a server has, on the coordinator's side; open-reader.ts is the workers' side. */
import { assertNever } from '../assert-never.js';
import { ConvoyError } from '../errors.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { SourceSpec } from './open-reader.js';
import type { BackupSource } from './source.js';
import type { SourceChoice } from './source-choice.js';
import { SqlSource } from './sql-source.js';
import type { WalNeed } from './sql-wal-needs.js';
import { WalsenderSource } from './walsender-source.js';

export type { WalNeed };

export interface OpenSourceOptions {
  readonly choice: SourceChoice;
  /** Connections that will be opened with openReader. */
  readonly jobs: number;
  readonly wal: WalNeed;
  readonly askPassword: (() => Promise<string>) | undefined;
  /** Takes what the server says beside its answers; without a severity it is a warning. */
  readonly onNotice: (message: string, severity?: string) => void;
  /** Drops the coordinator's connection, at any time. */
  readonly signal: AbortSignal;
}

export interface OpenedSource {
  readonly source: BackupSource;
  /** For the workers. */
  readonly spec: SourceSpec;
  /** Which was chosen and why, one line; undefined where there was no choice. */
  readonly reason: string | undefined;
}

const APPLICATION_NAME = 'pgconvoy';

/** SQLSTATEs with which a server turns a replication connection away that may still let a plain one in. */
const NO_REPLICATION_STATES: ReadonlySet<string> = new Set(['42501', '28000', '53300']);

/** @throws ConvoyError see {@link WalsenderSource.open} and {@link SqlSource.open} */
export async function openSource(
  settings: ConnectionSettings,
  options: OpenSourceOptions,
): Promise<OpenedSource> {
  switch (options.choice) {
    case 'walsender':
      return await openWalsender(settings, options);
    case 'sql':
      return await openSql(settings, options);
    case 'auto':
      return await openEither(settings, options);
    default:
      return assertNever(options.choice);
  }
}

/** The parallel commands where the server has them, plain SQL elsewhere. */
async function openEither(settings: ConnectionSettings, options: OpenSourceOptions): Promise<OpenedSource> {
  try {
    const opened = await openWalsender(settings, options);
    return { ...opened, reason: 'using the parallel backup commands of the server (source "walsender")' };
  } catch (error) {
    if (!(error instanceof ConvoyError) || !maySpeakSql(error)) throw error;
    const opened = await openSql(settings, options).catch((sqlError: unknown) => {
      // a client that gets in neither way was told the reason the first time: serve takes no plain ones
      const isOutBothWays = error.code === 'connection_failed' && isConnectionFailure(sqlError);
      throw isOutBothWays ? error : sqlError;
    });
    return { ...opened, reason: `reading over plain SQL (source "sql"), since ${error.message}` };
  }
}

function isConnectionFailure(thrown: unknown): boolean {
  return thrown instanceof ConvoyError && thrown.code === 'connection_failed';
}

function maySpeakSql({ code, sqlState = '' }: ConvoyError): boolean {
  return (
    code === 'server_unsupported' || (code === 'connection_failed' && NO_REPLICATION_STATES.has(sqlState))
  );
}

async function openWalsender(
  settings: ConnectionSettings,
  options: OpenSourceOptions,
): Promise<OpenedSource> {
  const { askPassword, onNotice, signal } = options;
  const openOptions = { applicationName: APPLICATION_NAME, askPassword, signal };
  const source = await WalsenderSource.open(settings, openOptions, onNotice);
  return {
    source,
    spec: { kind: 'walsender', settings: source.reached, identity: source.identity },
    reason: undefined,
  };
}

async function openSql(settings: ConnectionSettings, options: OpenSourceOptions): Promise<OpenedSource> {
  const { askPassword, onNotice, signal, jobs, wal } = options;
  const openOptions = { applicationName: APPLICATION_NAME, askPassword, signal, jobs, wal };
  const source = await SqlSource.open(settings, openOptions, onNotice);
  const { fileMode, dataChecksums, identity, reached } = source;
  return {
    source,
    spec: { kind: 'sql', settings: reached, identity, fileMode, dataChecksums },
    reason: undefined,
  };
}
