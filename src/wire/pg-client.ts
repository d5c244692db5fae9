/* The parts of node-postgres that connection.ts builds on and its types do not declare. */
import type net from 'node:net';
import type pg from 'pg';

/** The parts of pg.Connection that its types do not declare. */
interface PgConnection {
  stream: net.Socket;
  on(event: 'parameterStatus', listener: (message: ParameterStatusMessage) => void): void;
  on(
    event: 'authenticationSASL',
    listener: (message: { readonly mechanisms: readonly string[] }) => void,
  ): void;
  once(event: 'sslconnect', listener: () => void): void;
}

interface ParameterStatusMessage {
  readonly parameterName: string;
  readonly parameterValue: string;
}

export interface PgClient extends pg.Client {
  readonly connection: PgConnection & pg.Connection;
  readonly processID: number;
  /** What a CancelRequest must name, beside the process. */
  readonly secretKey: number;
}

/** A connection that only carries a CancelRequest. */
export interface CancelConnection {
  connect(portOrPath: number | string, host?: string): void;
  requestSsl(): void;
  cancel(processID: number, secretKey: number): void;
  on(event: 'error' | 'end', listener: () => void): void;
  once(event: 'connect' | 'sslconnect', listener: () => void): void;
}
