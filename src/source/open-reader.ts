/*
 * A worker thread's connection from the description of the source that the coordinator has opened (open-source.ts). Both
 * readers are loaded with the thread, which has time for it: when the source is known, the copy is about to begin.
 */
import { assertNever } from '../assert-never.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { ServerIdentity } from './server-identity.js';
import type { FileReader } from './source.js';
import { SqlReader } from './sql-reader.js';
import { WalsenderReader } from './walsender-reader.js';

const WORKER_NAME = 'pgconvoy worker';

/** Plain data, so that worker threads can open their own connections. Holds the password: never printed. */
export type SourceSpec =
  SpecOf<'walsender'> | (SpecOf<'sql'> & { readonly fileMode: number; readonly dataChecksums: boolean });

interface SpecOf<Kind extends string> {
  readonly kind: Kind;
  /** Lead to the one server that the coordinator has reached. */
  readonly settings: ConnectionSettings;
  /** What every connection must find there. */
  readonly identity: ServerIdentity;
}

/** A worker's connection. @param signal drops it, at any time */
export async function openReader(spec: SourceSpec, signal: AbortSignal): Promise<FileReader> {
  switch (spec.kind) {
    case 'walsender':
      return await WalsenderReader.open(spec.settings, {
        applicationName: WORKER_NAME,
        expected: spec.identity,
        signal,
      });
    case 'sql': {
      const { fileMode, dataChecksums, identity: expected } = spec;
      return await SqlReader.open(spec.settings, {
        applicationName: WORKER_NAME,
        fileMode,
        dataChecksums,
        expected,
        signal,
      });
    }
    default:
      return assertNever(spec);
  }
}
