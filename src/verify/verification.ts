/* What the parts of one verification share; made by verify.ts. */
import { MAX_LSN } from '../lsn.js';
import type { BackupManifest } from '../manifest/manifest.js';
import type { ProgressCounters } from '../progress-counters.js';
import type { CheckSettings } from './check-messages.js';
import type { CheckPool } from './check-pool.js';
import type { IgnoredPaths } from './ignored-paths.js';
import type { Problems } from './problems.js';
import type { VerifyEvents, VerifyOptions } from './verify-options.js';

export interface Verification {
  readonly options: VerifyOptions;
  readonly events: VerifyEvents;
  readonly manifest: BackupManifest;
  readonly ignored: IgnoredPaths;
  readonly problems: Problems;
  readonly pool: CheckPool;
  readonly counters: ProgressCounters;
}

/** What threads are to do with files. @param checkPages false where the cluster has no page checksums */
export function checkSettings(verification: Verification, checkPages: boolean): CheckSettings {
  const { options, manifest, counters } = verification;
  // later pages may be torn, and are mended by the WAL; where the manifest names none, no page is passed over
  const startLsn = manifest.walRanges[0]?.startLsn ?? MAX_LSN;
  return {
    checkFiles: options.checkFiles,
    pageStartLsn: checkPages ? startLsn : undefined,
    progress: counters.memory,
  };
}
