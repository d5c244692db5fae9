/*
 * A worker's side of a server that speaks the parallel backup commands: SEND_BACKUP_FILES, its tar stream taken
 * apart in the receive buffer. Only members that were asked for, in the order asked, are believed.
 */
import { ConvoyError } from '../errors.js';
import { MAX_TASK_WARNINGS, PAGE_BYTES, READ_SILENCE_MS, SEGMENT_PAGES } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { isDatabaseDirectory, parseRelationFileName } from '../pgdata/exclusions.js';
import { formatReplicationCommand } from '../replication/command.js';
import type { TarHeader } from '../tar/tar-header.js';
import { TarMemberReader, type TarMemberHandler } from '../tar/tar-members.js';
import { ServerConnection } from '../wire/connection.js';
import type { ConnectionSettings } from '../wire/conninfo.js';
import { assertSameServer, identifyWalsender, type ServerIdentity } from './server-identity.js';
import type {
  FileReader,
  FileReceiver,
  FileToRead,
  ReadOptions,
  ReadResult,
  SourceDirectory,
} from './source.js';

/** SQLSTATE of "checksum verification failure during base backup": the data is complete, pages are bad. */
const DATA_CORRUPTED = 'XX001';

/** The largest relation segment; other files may grow between list and read, but not without end. */
const MAX_RELATION_BYTES = SEGMENT_PAGES * PAGE_BYTES;
const MAX_OTHER_BYTES = 2 ** 46;

interface ReaderOptions {
  readonly applicationName: string;
  /** Drops the connection, at any time. */
  readonly signal?: AbortSignal;
  /** The server that the backup was started on; any other is refused. */
  readonly expected?: ServerIdentity;
}

export class WalsenderReader implements FileReader {
  readonly #connection: ServerConnection;

  static async open(settings: ConnectionSettings, options: ReaderOptions): Promise<WalsenderReader> {
    const { applicationName, expected, signal } = options;
    const connection = await ServerConnection.open(settings, { applicationName, replication: true, signal });
    try {
      if (expected !== undefined) {
        assertSameServer(expected, await identifyWalsender(connection), connection.server);
      }
      return new WalsenderReader(connection);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  constructor(connection: ServerConnection) {
    this.#connection = connection;
  }

  async read(
    files: readonly FileToRead[],
    options: ReadOptions,
    receiver: FileReceiver,
  ): Promise<ReadResult> {
    const warnings: string[] = [];
    const { onNotice } = this.#connection;
    this.#connection.onNotice = ({ message }) => {
      if (warnings.length < MAX_TASK_WARNINGS) warnings.push(message);
    };
    try {
      const hasBadPages = await this.#sendBackupFiles(
        files,
        options,
        new AskedMembers(files, 'file', receiver),
      );
      return { hasBadPages, warnings };
    } finally {
      this.#connection.onNotice = onNotice;
    }
  }

  /** Directories with what their members say of them; one that is gone is left out. */
  async readDirectories(directories: readonly FileToRead[], startLsn: Lsn): Promise<SourceDirectory[]> {
    const found: SourceDirectory[] = [];
    const members = new AskedMembers(directories, 'directory', {
      begin: (index, { mode, owner }) =>
        found.push({ target: directories[index]?.target ?? '', mode, owner }),
      data: () => undefined,
      end: () => {},
    });
    await this.#sendBackupFiles(directories, { startLsn, verifyPageChecksums: false }, members);
    return found;
  }

  destroy(): void {
    this.#connection.destroy();
  }

  /** @returns true where the server found damaged pages */
  async #sendBackupFiles(
    files: readonly FileToRead[],
    options: ReadOptions,
    members: AskedMembers,
  ): Promise<boolean> {
    const tar = new TarMemberReader(members);
    const command = formatReplicationCommand({
      kind: 'send_backup_files',
      paths: files.map((file) => file.source),
      maxRateKilobytes: undefined,
      noVerifyChecksums: !options.verifyPageChecksums,
      // always sent: without it a patched server forgets where the backup started (PROTOCOL rule 5)
      startWalLocation: options.startLsn,
    });
    let hasBadPages = false;
    try {
      await this.#connection.run(command, {
        copy: (piece) => tar.push(piece),
        silenceLimitMs: READ_SILENCE_MS,
      });
    } catch (error) {
      hasBadPages =
        error instanceof ConvoyError && error.code === 'server_error' && error.sqlState === DATA_CORRUPTED;
      if (!hasBadPages) throw error;
    }
    tar.finish();
    return hasBadPages;
  }
}

/** Holds the members against what was asked for. */
class AskedMembers implements TarMemberHandler {
  readonly #files: readonly FileToRead[];
  readonly #type: 'file' | 'directory';
  readonly #receiver: FileReceiver;
  #next = 0;

  constructor(files: readonly FileToRead[], type: 'file' | 'directory', receiver: FileReceiver) {
    this.#files = files;
    this.#type = type;
    this.#receiver = receiver;
  }

  begin({ name, type, size, mode, mtime, owner }: TarHeader): void {
    while (this.#next < this.#files.length && this.#memberName(this.#next) !== name) this.#next += 1;
    const file = this.#files[this.#next];
    if (file === undefined || type !== this.#type) {
      throw new ConvoyError(
        'untrusted_peer',
        `the server sent what was not asked for: "${name.slice(0, 200)}"`,
      );
    }
    if (size > maxBytesOf(file.target)) {
      throw new ConvoyError('untrusted_peer', `the server sent an impossible size of "${name}": ${size}`);
    }
    this.#receiver.begin(this.#next, { size, mode, mtime, owner });
    this.#next += 1;
  }

  data(chunk: Buffer): Promise<void> | undefined {
    return this.#receiver.data(chunk);
  }

  end(): void {
    this.#receiver.end();
  }

  /** Relative to the data directory or to the tablespace; a directory ends in a slash. */
  #memberName(index: number): string {
    const { source, target } = this.#files[index] ?? { source: '', target: '' };
    const name = source.startsWith('./') ? source.slice(2) : target.replace(/^pg_tblspc\/\d+\//, '');
    return this.#type === 'directory' ? `${name}/` : name;
  }
}

function maxBytesOf(target: string): number {
  const at = target.lastIndexOf('/');
  const isRelation =
    isDatabaseDirectory(target.slice(0, Math.max(at, 0))) &&
    parseRelationFileName(target.slice(at + 1)) !== undefined;
  return isRelation ? MAX_RELATION_BYTES : MAX_OTHER_BYTES;
}
