/*
 * The one kind of error that pgconvoy throws on purpose. Every layer throws it, the command line prints it, and
 * it survives the way between threads as plain data (an Error loses its fields when it is cloned).
 */

/** Stable codes; a program may match on them, never on the text of a message. */
const ERROR_CODES = {
  usage: 'an option or an argument is wrong',
  connection_settings: 'a connection setting is wrong or contradicts another',
  connection_failed: 'no connection could be opened',
  connection_lost: 'an open connection broke',
  server_error: 'the server answered with an error',
  other_server: 'a connection led to another server than the backup was started on',
  server_unsupported: 'the server lacks what is asked for',
  untrusted_peer: 'the other side sent what it was not asked for, or broke the protocol',
  target_refused: 'the target may not be written to',
  target_io: 'reading or writing a local file failed',
  wal_missing: 'WAL that the backup needs is gone',
  page_checksum: 'pages of the cluster are damaged',
  file_damaged: 'a file of PostgreSQL does not say what it should',
  memory_refused: 'the system does not give the memory that is needed',
  cancelled: 'the user asked to stop',
  worker_failed: 'a worker thread or process ended by itself',
  serve_refused: 'the server half may not start or serve this',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** A {@link ConvoyError} as plain data, for messages between threads and processes. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly sqlState?: string;
}

export interface ErrorDetails {
  /** What the user can do about it, one line. */
  readonly hint?: string | undefined;
  /** SQLSTATE of the server's error, or the one that `serve` answers with. */
  readonly sqlState?: string | undefined;
  readonly cause?: unknown;
}

/** Message in PostgreSQL's style: lower case, no full stop, the thing named and quoted. */
export class ConvoyError extends Error {
  override readonly name = 'ConvoyError';
  readonly code: ErrorCode;
  readonly hint?: string;
  readonly sqlState?: string;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    if (details.hint !== undefined) this.hint = details.hint;
    if (details.sqlState !== undefined) this.sqlState = details.sqlState;
  }

  toPlain(): PlainError {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.sqlState === undefined ? {} : { sqlState: this.sqlState }),
    };
  }

  static fromPlain(plain: PlainError): ConvoyError {
    return new ConvoyError(plain.code, plain.message, plain);
  }
}

/** Anything that was thrown, as a ConvoyError; what is not one already gets `code`. */
export function asConvoyError(thrown: unknown, code: ErrorCode): ConvoyError {
  if (thrown instanceof ConvoyError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new ConvoyError(code, message, { cause: thrown });
}

const SYSTEM_MESSAGES: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EDQUOT: 'Disk quota exceeded',
  EEXIST: 'File exists',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENOENT: 'No such file or directory',
  ENOSPC: 'No space left on device',
  ENOTDIR: 'Not a directory',
  ENOTEMPTY: 'Directory not empty',
  EPERM: 'Operation not permitted',
  EPIPE: 'Broken pipe',
  EROFS: 'Read-only file system',
};

/** True for an error of Node's file system functions with this code ("ENOENT"). */
export function isSystemError(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && (thrown as NodeJS.ErrnoException).code === code;
}

/** `could not <action> "<path>": No space left on device`, as PostgreSQL writes it with %m. */
export function fileError(action: string, path: string, thrown: unknown): ConvoyError {
  if (thrown instanceof ConvoyError) return thrown;
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined;
  const reason =
    (code === undefined ? undefined : SYSTEM_MESSAGES[code]) ??
    (thrown instanceof Error ? thrown.message : String(thrown));
  return new ConvoyError('target_io', `could not ${action} "${path}": ${reason}`, { cause: thrown });
}
