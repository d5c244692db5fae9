/*
 * The files of the served cluster, tablespace by tablespace: what SEND_BACKUP_FILELIST sends and START_BACKUP PROGRESS
 * adds up. Binds the walk of a data directory to one session.
 */
import { walkDataDirectory, walkTablespace, type WalkedFile } from '../pgdata/walk.js';
import { noticeResponse } from '../wire/backend-messages.js';
import type { CommandContext } from './command-context.js';
import { locationsInside, type ServedTablespace } from './tablespaces.js';

const TAR_BLOCK_BYTES = 512;

export class FileListing {
  readonly #tablespaces: readonly ServedTablespace[];
  readonly #context: CommandContext;
  readonly #warn = (message: string): void => {
    this.#context.channel.send(noticeResponse({ severity: 'WARNING', sqlState: '01000', message }));
  };

  constructor(tablespaces: readonly ServedTablespace[], context: CommandContext) {
    this.#tablespaces = tablespaces;
    this.#context = context;
  }

  /** Batches; "./base/1/112". */
  dataDirectory(): AsyncGenerator<WalkedFile[]> {
    const { dataDirectory, majorVersion, statsTempDirectory } = this.#context.cluster;
    return walkDataDirectory({
      dataDirectory,
      majorVersion,
      tablespaceLocations: locationsInside(dataDirectory, this.#tablespaces),
      statsTempDirectory,
      onWarning: this.#warn,
    });
  }

  /** Batches; "/srv/ts1/PG_15_202209061/5/16408". */
  tablespace(location: string): AsyncGenerator<WalkedFile[]> {
    return walkTablespace(location, this.#context.cluster.versionDirectory, this.#warn);
  }

  /** What the files take in a tar stream, as sendDir counts it: kB, rounded down. */
  async tarKilobytes(batches: AsyncGenerator<WalkedFile[]>): Promise<number> {
    let bytes = 0;
    for await (const batch of batches) {
      this.#context.signal.throwIfAborted();
      for (const { type, size } of batch) {
        const contentBytes = type === 'file' ? size : 0;
        bytes += TAR_BLOCK_BYTES + Math.ceil(contentBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
      }
    }
    return Math.floor(bytes / 1024);
  }
}
