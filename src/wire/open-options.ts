/* How a connection is opened, beyond where it leads (conninfo.ts): what ServerConnection.open takes. */
import type { Clock } from '../clock.js';

/** A notice or warning of the server. */
export interface Notice {
  readonly severity: string;
  readonly message: string;
  readonly hint: string | undefined;
}

export interface OpenOptions {
  /** A walsender for physical replication instead of a backend with a database. */
  readonly replication?: boolean;
  /** Startup option `role`: the session acts with this role's rights. */
  readonly role?: string;
  readonly applicationName: string;
  /** Asked when the server wants a password and the settings have none; undefined: none can be had. */
  readonly askPassword?: (() => Promise<string>) | undefined;
  /** Drops the connection, also while it is being opened. */
  readonly signal?: AbortSignal | undefined;
  /** `detach` will be called: the stream must be one that anybody can read from. */
  readonly detachable?: boolean;
  /** What the socket reads into, without TLS; one of its own where none is given. */
  readonly receiveBuffer?: Buffer;
  /** That silences go by; the system's unless a test has its own. */
  readonly clock?: Clock;
  /** Takes the notices; of the login, too. */
  readonly onNotice?: ((notice: Notice) => void) | undefined;
}
