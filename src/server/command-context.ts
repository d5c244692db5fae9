/* What a command of a session has at hand; given by command-loop.ts to the files of the four commands. */
import type { BackupSlot } from './backup-slot.js';
import type { ClientChannel } from './client-channel.js';
import type { PageMemoryPool } from './page-memory-pool.js';
import type { ServerAccess } from './server-access.js';
import type { ServedCluster } from './served-cluster.js';
import type { ServerLog } from './server-log.js';

/** What all sessions of a process share. */
export interface CommandEnvironment {
  readonly cluster: ServedCluster;
  readonly access: ServerAccess;
  readonly pageMemory: PageMemoryPool;
  readonly log: ServerLog;
}

export interface CommandContext extends CommandEnvironment {
  readonly channel: ClientChannel;
  /** The backup that this session has started, if any. */
  readonly backup: BackupSlot;
  /** Aborted by a CancelRequest, by the end of the client and by the end of the session; the reason is a ConvoyError. */
  readonly signal: AbortSignal;
}
