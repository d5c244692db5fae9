/*
 * What a tar archive says about a member before the member's own header: names longer than the header holds (GNU
 * tar's "L" and "K" members), and pax records (POSIX 1003.1, "x" members). Held by tar-members.ts; used for archives
 * only, since PostgreSQL's COPY streams have neither.
 */
import { assertNever } from '../assert-never.js';
import { MAX_TAR_EXTENSION_BYTES } from '../limits.js';
import type { TarExtension, TarExtensionHeader, TarFailure, TarHeader } from './tar-header.js';

type Overrides = { -readonly [Field in 'name' | 'linkName' | 'size' | 'mtime']?: TarHeader[Field] };

export class TarExtensions {
  readonly #fail: TarFailure;
  /** The extension whose content is arriving. */
  #current: { readonly says: TarExtension; readonly chunks: Buffer[] } | undefined;
  #overrides: Overrides = {};

  constructor(fail: TarFailure) {
    this.#fail = fail;
  }

  /** True while content belongs here, not to a member. */
  get isOpen(): boolean {
    return this.#current !== undefined;
  }

  begin({ says, size }: TarExtensionHeader): void {
    if (size > MAX_TAR_EXTENSION_BYTES) throw this.#fail('extended tar header too long');
    this.#current = { says, chunks: [] };
  }

  /** The chunk is copied. */
  data(chunk: Buffer): void {
    this.#current?.chunks.push(Buffer.from(chunk));
  }

  end(): void {
    if (this.#current === undefined) return;
    const { says, chunks } = this.#current;
    const content = Buffer.concat(chunks);
    this.#current = undefined;
    switch (says) {
      case 'gnu-name':
        this.#overrides.name = untilZero(content);
        break;
      case 'gnu-link':
        this.#overrides.linkName = untilZero(content);
        break;
      case 'pax':
        this.#readRecords(content);
        break;
      case 'pax-global':
        // a comment, in archives that anyone makes of a cluster
        break;
      default:
        assertNever(says);
    }
  }

  /** The member's header as the extensions before it have changed it; they count for it alone. */
  apply(header: TarHeader): TarHeader {
    const { size, ...others } = this.#overrides;
    this.#overrides = {};
    const changed = { ...header, ...others };
    return size === undefined || header.type !== 'file' ? changed : { ...changed, size };
  }

  /** `<length> <key>=<value>\n`, the length being that of the whole record. */
  #readRecords(content: Buffer): void {
    for (let at = 0; at < content.length;) {
      const space = content.indexOf(0x20, at);
      const digits = content.toString('latin1', at, Math.max(at, space));
      const end = at + Number(digits);
      const equals = content.indexOf(0x3d, space);
      if (!/^\d{1,10}$/.test(digits) || content[end - 1] !== 0x0a || equals < 0 || equals >= end) {
        throw this.#fail('invalid extended tar header');
      }
      this.#take(content.toString('utf8', space + 1, equals), content.toString('utf8', equals + 1, end - 1));
      at = end;
    }
  }

  #take(key: string, value: string): void {
    switch (key) {
      case 'path':
        this.#overrides.name = value;
        break;
      case 'linkpath':
        this.#overrides.linkName = value;
        break;
      case 'size':
        this.#overrides.size = this.#number(value, /^\d+$/);
        break;
      case 'mtime':
        this.#overrides.mtime = Math.floor(this.#number(value, /^\d+(\.\d*)?$/));
        break;
      default:
        if (key.startsWith('GNU.sparse.')) throw this.#fail('sparse members are not supported');
    }
  }

  #number(text: string, pattern: RegExp): number {
    const value = pattern.test(text) ? Number(text) : Number.NaN;
    if (!(value <= Number.MAX_SAFE_INTEGER)) throw this.#fail('invalid number in an extended tar header');
    return value;
  }
}

function untilZero(content: Buffer): string {
  const end = content.indexOf(0);
  return content.toString('utf8', 0, end < 0 ? content.length : end);
}
