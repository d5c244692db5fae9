/*
 * Takes a tar stream apart into members, in place and as it arrives: no byte is copied but a header that is split
 * over chunks. For the COPY streams of SEND_BACKUP_FILES and STOP_BACKUP, whose chunks lie in a reused buffer, and for
 * the archives that a backup consists of (target/archive-reader.ts).
 */
import { ConvoyError } from '../errors.js';
import { TarExtensions } from './tar-extensions.js';
import {
  decodeTarHeader,
  isEmptyBlock,
  TAR_BLOCK_BYTES,
  type TarFailure,
  type TarHeader,
} from './tar-header.js';

/** Called in the order begin, data*, end, once a member; a chunk is borrowed until the call returns. */
export interface TarMemberHandler {
  begin(header: TarHeader): void;
  /** A returned promise asks the sender to wait; what is in hand already is delivered first. */
  data(chunk: Buffer): Promise<void> | undefined;
  end(): void;
}

export interface TarDialect {
  /**
   * An archive ends with empty blocks and may have members with long names and pax records; a COPY stream is nothing
   * but plain members.
   */
  readonly kind: 'members' | 'archive';
  readonly fail: TarFailure;
}

const COPY_STREAM: TarDialect = {
  kind: 'members',
  fail: (reason) => new ConvoyError('untrusted_peer', `invalid data in the copy stream: ${reason}`),
};

export class TarMemberReader {
  readonly #handler: TarMemberHandler;
  readonly #isArchive: boolean;
  readonly #fail: TarFailure;
  readonly #extensions: TarExtensions;
  readonly #header: Buffer = Buffer.alloc(TAR_BLOCK_BYTES);
  #headerFilled = 0;
  #content = 0;
  #padding = 0;
  #inMember = false;
  #hasEnded = false;

  constructor(handler: TarMemberHandler, { kind, fail }: TarDialect = COPY_STREAM) {
    this.#handler = handler;
    this.#isArchive = kind === 'archive';
    this.#fail = fail;
    this.#extensions = new TarExtensions(fail);
  }

  /** @throws what the dialect's `fail` makes of what is no tar member, and whatever the handler throws */
  push(chunk: Buffer): Promise<void> | undefined {
    let wait: Promise<void> | undefined;
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#content > 0) {
        const end = Math.min(chunk.length, offset + this.#content);
        this.#content -= end - offset;
        wait = this.#deliver(chunk.subarray(offset, end)) ?? wait;
        offset = end;
      } else if (this.#padding > 0) {
        const skipped = Math.min(chunk.length - offset, this.#padding);
        this.#padding -= skipped;
        offset += skipped;
      } else {
        offset = this.#readHeader(chunk, offset);
      }
      if (this.#inMember && this.#content === 0) {
        this.#inMember = false;
        if (this.#extensions.isOpen) this.#extensions.end();
        else this.#handler.end();
      }
    }
    return wait;
  }

  /** Bytes up to the next header, which a sender that can seek may leave out with `skip`; 0 inside an extension. */
  get skippable(): number {
    return this.#extensions.isOpen ? 0 : this.#content + this.#padding;
  }

  /** Leaves out all that is `skippable`; the handler hears the end of the member, and none of its data. */
  skip(): void {
    if (this.#extensions.isOpen) return;
    this.#content = 0;
    this.#padding = 0;
    if (!this.#inMember) return;
    this.#inMember = false;
    this.#handler.end();
  }

  /** @throws where the stream stopped inside a member, or an archive without its end */
  finish(): void {
    if (this.#content > 0 || this.#padding > 0 || this.#headerFilled > 0) {
      throw this.#fail('tar stream ended inside a member');
    }
    if (this.#isArchive && !this.#hasEnded) throw this.#fail('tar stream ended before its end was marked');
  }

  #deliver(bytes: Buffer): Promise<void> | undefined {
    if (!this.#extensions.isOpen) return this.#handler.data(bytes);
    this.#extensions.data(bytes);
    return undefined;
  }

  #readHeader(chunk: Buffer, offset: number): number {
    let block: Buffer = this.#header;
    let next = offset + TAR_BLOCK_BYTES;
    if (this.#headerFilled === 0 && next <= chunk.length) {
      block = chunk.subarray(offset, next);
    } else {
      const copied = chunk.copy(this.#header, this.#headerFilled, offset);
      this.#headerFilled += copied;
      next = offset + copied;
      if (this.#headerFilled < TAR_BLOCK_BYTES) return next;
      this.#headerFilled = 0;
    }
    this.#takeHeader(block);
    return next;
  }

  #takeHeader(block: Buffer): void {
    if (this.#isArchive && (this.#hasEnded || block[0] === 0) && isEmptyBlock(block)) {
      this.#hasEnded = true;
      return;
    }
    if (this.#hasEnded) throw this.#fail('data after the end of the tar stream');
    const header = decodeTarHeader(block, this.#fail, this.#isArchive);
    if (header.type === 'extension') {
      this.#extensions.begin(header);
      this.#expect(header.size);
      return;
    }
    const member = this.#extensions.apply(header);
    this.#expect(member.size);
    this.#handler.begin(member);
  }

  #expect(size: number): void {
    this.#content = size;
    this.#padding = -size & (TAR_BLOCK_BYTES - 1);
    this.#inMember = true;
  }
}
