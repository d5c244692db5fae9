/*
 * Writes what comes when a backup stops. WAL goes to the target as it arrives; pg_control is held back and checked,
 * and written by the caller after everything else, since a data directory without it does not start.
 */
import { PacedFileCopy, type CopyTools } from '../copy/paced-file.js';
import { ConvoyError } from '../errors.js';
import type { FileOwner } from '../file-owner.js';
import type { ManifestFile } from '../manifest/manifest.js';
import { CONTROL_FILE_PATH, parseControlFile } from '../pgdata/control-file.js';
import { isWalSegmentName } from '../pgdata/wal-names.js';
import type { StopMember, StopReceiver } from '../source/source.js';

export class StopFiles implements StopReceiver {
  /** For the manifest: WAL segments are not in it, their status and history files are. */
  readonly manifestFiles: ManifestFile[] = [];
  /** Relative to the data directory, to be synced. */
  readonly paths: string[] = [];
  /** Of the segments. */
  walBytes = 0;
  readonly #tools: CopyTools;
  readonly #copy: PacedFileCopy;
  #member: StopMember | undefined;
  #control: { readonly member: StopMember; readonly chunks: Buffer[] } | undefined;

  constructor(tools: CopyTools) {
    this.#tools = tools;
    this.#copy = new PacedFileCopy(tools);
  }

  begin(member: StopMember): void {
    this.#member = member;
    if (member.path === CONTROL_FILE_PATH) this.#control = { member, chunks: [] };
    else this.#copy.begin(member);
  }

  data(chunk: Buffer): Promise<void> | undefined {
    if (this.#member?.path !== CONTROL_FILE_PATH) return this.#copy.data(chunk);
    this.#control?.chunks.push(Buffer.from(chunk));
    return undefined;
  }

  end(): void {
    const path = this.#member?.path ?? '';
    if (path === CONTROL_FILE_PATH) return;
    const written = this.#copy.end();
    this.paths.push(path);
    if (isWalSegmentName(path.slice('pg_wal/'.length))) this.walBytes += written.size;
    else this.manifestFiles.push(written);
  }

  /** Whose pg_control is, and the files of the server altogether; undefined: it does not tell. */
  get owner(): FileOwner | undefined {
    return this.#control?.member.owner;
  }

  /** Gives up what has come so far. */
  abandon(): void {
    this.#copy.abandon();
  }

  /**
   * @throws ConvoyError `file_damaged` where its CRC is wrong, `untrusted_peer` where it is another cluster's
   */
  writeControlFile(systemIdentifier: bigint): void {
    if (this.#control === undefined) throw new TypeError('the source sends pg_control before it returns');
    const { member, chunks } = this.#control;
    const bytes = Buffer.concat(chunks);
    if (parseControlFile(bytes).systemIdentifier !== systemIdentifier) {
      throw new ConvoyError('untrusted_peer', 'pg_control belongs to another cluster');
    }
    this.manifestFiles.push(writeWhole(this.#tools, member, bytes));
    this.paths.push(member.path);
  }
}

/** Writes a file that is in memory. */
export function writeWhole(tools: CopyTools, file: Omit<StopMember, 'size'>, bytes: Buffer): ManifestFile {
  const copy = new PacedFileCopy({ ...tools, rate: undefined });
  copy.begin({ ...file, size: bytes.length });
  void copy.data(bytes);
  return copy.end();
}
