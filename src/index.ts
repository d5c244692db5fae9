/* The public API: what the command line uses, for programs. */
export { backup } from './coordinator/backup.js';
export type { BackupEvents, BackupOptions } from './coordinator/backup-options.js';
export type { BackupReport } from './coordinator/backup-report.js';
export { ConvoyError, type ErrorCode } from './errors.js';
export { formatLsn, parseLsn, type Lsn } from './lsn.js';
export { verify } from './verify/verify.js';
export type { VerifyEvents, VerifyOptions, VerifyReport } from './verify/verify-options.js';
export { resolveConnectionSettings, type ConnectionSettings } from './source/connection-settings.js';
export type { TablespaceMapping } from './target/tablespace-mapping.js';
export { restore } from './restore/restore.js';
export type { Recovery, RecoveryTarget } from './restore/recovery.js';
export type { RestoreEvents, RestoreOptions, RestoreReport } from './restore/restore-options.js';
