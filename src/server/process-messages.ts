/*
 * What the primary process of `serve` and its session processes tell each other: plain data over the IPC channel of
 * child_process, which clones it (bigint and Uint8Array included). Passwords and keys travel here only, never in
 * arguments or the environment, which other users of the machine can read.
 */
import type { ConnectionSettings } from '../wire/conninfo.js';
import type { ServedCluster } from './served-cluster.js';
import type { LogLevel } from './server-log.js';
import type { TlsMaterial } from './tls-files.js';

/** All that a session process has to know; sent first and once. */
export interface SessionProcessSettings {
  readonly cluster: ServedCluster;
  readonly connection: ConnectionSettings;
  readonly tls: TlsMaterial | undefined;
  /** Makes the salts of roles that cannot log in; the same in all processes. */
  readonly mockSecret: Uint8Array;
  /** From the connection's start until it has logged in. */
  readonly loginTimeoutMs: number;
}

export type ToSessionProcess =
  | { readonly kind: 'start'; readonly settings: SessionProcessSettings }
  /** Comes with the socket. */
  | { readonly kind: 'client'; readonly id: number; readonly peer: string }
  /** The answer to `logged_in`. */
  | { readonly kind: 'admitted'; readonly id: number; readonly hasPlace: boolean }
  /** Too many have not logged in yet; this one has to go. */
  | { readonly kind: 'drop'; readonly id: number }
  | { readonly kind: 'cancel'; readonly processId: number; readonly secretKey: Uint8Array }
  /** End all sessions, then the process. */
  | { readonly kind: 'shutdown' };

export type FromSessionProcess =
  | { readonly kind: 'ready' }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly text: string }
  /** Is there a place for its session? */
  | { readonly kind: 'logged_in'; readonly id: number }
  | { readonly kind: 'session_ended'; readonly id: number }
  /** For whichever process holds the session. */
  | { readonly kind: 'cancel'; readonly processId: number; readonly secretKey: Uint8Array };
