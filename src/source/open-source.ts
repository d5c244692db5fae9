/* The kind of source from its description, on the coordinator's side and in the worker threads. */
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { BackupSource, FileReader } from './source.js';
import { WalsenderReader } from './walsender-reader.js';
import { WalsenderSource } from './walsender-source.js';

export { resolveConnection as resolveConnectionSettings, type ConnectionSettings } from '../wire/conninfo.js';

/** Plain data, so that worker threads can open their own connections. Holds the password: never printed. */
export interface SourceSpec {
  readonly kind: 'walsender';
  readonly settings: ConnectionSettings;
}

export interface OpenSourceOptions {
  readonly askPassword: (() => Promise<string>) | undefined;
  readonly onWarning: (message: string) => void;
  /** Drops the coordinator's connection, at any time. */
  readonly signal: AbortSignal;
}

export interface OpenedSource {
  readonly source: BackupSource;
  /** For the workers. */
  readonly spec: SourceSpec;
}

/** @throws ConvoyError see {@link WalsenderSource.open} */
export async function openSource(
  settings: ConnectionSettings,
  options: OpenSourceOptions,
): Promise<OpenedSource> {
  const { askPassword, onWarning, signal } = options;
  const source = await WalsenderSource.open(
    settings,
    { applicationName: 'pgconvoy', askPassword, signal },
    onWarning,
  );
  const { password } = source;
  return {
    source,
    spec: { kind: 'walsender', settings: password === undefined ? settings : { ...settings, password } },
  };
}

/** A worker's connection. */
export function openReader({ settings }: SourceSpec): Promise<FileReader> {
  return WalsenderReader.open(settings, { applicationName: 'pgconvoy worker' });
}
