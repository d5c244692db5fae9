/*
 * The tar stream of a COPY: tar-stream makes headers and padding, the chunks go to the client as they are. Used by
 * SEND_BACKUP_FILES and STOP_BACKUP; there is no end-of-archive block.
 * Twin of tar-members.ts in src/tar. Header fields: tarCreateHeader in PostgreSQL's src/port/tar.c.
 */
import { pack, type Header, type Pack } from 'tar-stream';
import { ConvoyError } from '../errors.js';
import { MAX_TAR_NAME_BYTES } from '../limits.js';
import { writeTarNumber } from '../tar/tar-encoding.js';
import type { ClientChannel } from './client-channel.js';

/** What a header tells besides the kind of the member. */
export interface MemberFacts {
  /** As the member is to be named; a directory's ends with "/". */
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Milliseconds since the epoch. */
  readonly mtimeMs: number;
}

type MemberKind = Pick<Header, 'type'> & Partial<Pick<Header, 'linkname' | 'size'>>;

const NAME_FIELD_BYTES = 100;
const UID_OFFSET = 108;
const GID_OFFSET = 116;
const OWNER_BYTES = 8;
/** Six octal digits: tar-stream writes no more of an owner's number. */
const MAX_PACKED_OWNER = 0o777777;
const CHECKSUM_OFFSET = 148;
const CHECKSUM_BYTES = 8;

export class TarOutput implements Disposable {
  readonly #channel: ClientChannel;
  readonly #pack = pack();
  readonly #onSent = new Map<Buffer, () => void>();
  /** Of a member whose header tar-stream would not write as PostgreSQL does. */
  #foreign: MemberFacts | undefined;
  #member: ReturnType<Pack['entry']> | undefined;
  #memberEnd: Promise<void> = Promise.resolve();

  constructor(channel: ClientChannel) {
    this.#channel = channel;
    this.#pack.on('data', (chunk) => this.#emit(chunk as Buffer));
    // a pack that is destroyed on the way out takes its open member with it
    this.#pack.on('error', () => {});
  }

  /** @throws ConvoyError XX000 for a name that tar cannot hold */
  directory(facts: MemberFacts): Promise<void> {
    return this.#withoutContent(facts, { type: 'directory' });
  }

  /** @throws ConvoyError XX000 for a name or a target that tar cannot hold */
  link(facts: MemberFacts, target: string): Promise<void> {
    if (Buffer.byteLength(target) > MAX_TAR_NAME_BYTES) {
      const message = `symbolic link target too long for tar format: file name "${facts.name}", target "${target}"`;
      throw new ConvoyError('serve_refused', message, { sqlState: 'XX000' });
    }
    return this.#withoutContent(facts, { type: 'symlink', linkname: target });
  }

  /**
   * Begins a file of exactly `size` bytes, which write() is then given, before end().
   *
   * @throws ConvoyError XX000 for a name that tar cannot hold
   */
  beginFile(facts: MemberFacts, size: number): void {
    this.#begin(facts, { type: 'file', size });
  }

  /** @param chunk borrowed until `onSent` is called */
  write(chunk: Buffer, onSent: () => void): void {
    this.#onSent.set(chunk, onSent);
    this.#member?.write(chunk);
  }

  /** Resolves when the member, padding included, has been handed to the channel. */
  async endFile(): Promise<void> {
    this.#member?.end(null);
    await this.#memberEnd;
  }

  /** A small file made up here. */
  async file(facts: MemberFacts, content: Buffer): Promise<void> {
    this.beginFile(facts, content.length);
    if (content.length > 0) this.write(content, () => {});
    await this.endFile();
  }

  /** To be called however the stream ends; gives back what was not sent. */
  [Symbol.dispose](): void {
    this.#pack.destroy();
    for (const onSent of this.#onSent.values()) onSent();
    this.#onSent.clear();
  }

  async #withoutContent(facts: MemberFacts, kind: MemberKind): Promise<void> {
    this.#begin(facts, kind);
    await this.#memberEnd;
  }

  #begin(facts: MemberFacts, kind: MemberKind): void {
    const { name, mode, uid, gid, mtimeMs } = facts;
    const nameBytes = Buffer.byteLength(name);
    if (nameBytes > MAX_TAR_NAME_BYTES) {
      throw new ConvoyError('serve_refused', `file name too long for tar format: "${name}"`, {
        sqlState: 'XX000',
      });
    }
    const isForeignName = nameBytes !== name.length;
    if (isForeignName || Math.max(uid, gid) > MAX_PACKED_OWNER) this.#foreign = facts;
    this.#memberEnd = new Promise((resolve, reject) => {
      const header = {
        ...kind,
        name: isForeignName ? 'x'.repeat(nameBytes) : name,
        mode: mode & 0o7777,
        uid,
        gid,
        mtime: new Date(mtimeMs),
        uname: 'postgres',
        gname: 'postgres',
      };
      this.#member = this.#pack.entry(header, (error) => (error ? reject(error) : resolve()));
    });
    this.#memberEnd.catch(() => {});
  }

  #emit(chunk: Buffer): void {
    if (this.#foreign !== undefined) {
      correctHeader(chunk, this.#foreign);
      this.#foreign = undefined;
    }
    const onSent = this.#onSent.get(chunk);
    this.#onSent.delete(chunk);
    this.#channel.sendCopyData(chunk, onSent ?? (() => {}));
  }
}

/**
 * Puts a name into a header that has bytes beyond ASCII, as PostgreSQL does (tar-stream would add a pax member), and numbers
 * of an owner that are large, as in containers.
 */
function correctHeader(header: Buffer, { name, uid, gid }: MemberFacts): void {
  header.fill(0, 0, NAME_FIELD_BYTES);
  header.write(name, 'utf8');
  writeTarNumber(header, UID_OFFSET, OWNER_BYTES, uid);
  writeTarNumber(header, GID_OFFSET, OWNER_BYTES, gid);
  header.fill(' ', CHECKSUM_OFFSET, CHECKSUM_OFFSET + CHECKSUM_BYTES);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, CHECKSUM_OFFSET, 'latin1');
}
