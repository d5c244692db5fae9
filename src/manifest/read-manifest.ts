/*
 * Reads backup_manifest from a file, piece by piece, and checks its own checksum: called by verify and restore.
 * Of the file only a piece is in memory, of its files what RecordedFile holds.
 * Rule: the last line holds the SHA-256 of all lines before (verify_manifest_checksum in src/common/parse_manifest.c).
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { ConvoyError, fileError } from '../errors.js';
import { MAX_MANIFEST_LINE_BYTES } from '../limits.js';
import { JsonEvents, JsonSyntaxError } from './json-events.js';
import type { BackupManifest } from './manifest.js';
import { ManifestParser, parseFailure } from './manifest-parser.js';

const PIECE_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;
const SHA256_HEX = /^[0-9a-f]{64}$/i;

/**
 * Synchronous: nothing else can go on before the manifest is known, and a million files take a second or two.
 *
 * @throws ConvoyError `target_io` where it cannot be read, `file_damaged` where it is none or its checksum differs
 */
export function readManifest(path: string): BackupManifest {
  const reading = new ManifestReading();
  for (const piece of pieces(path)) reading.push(piece);
  return reading.end();
}

/** A manifest that comes in pieces of any length; from a tar archive, say. */
export class ManifestReading {
  readonly #parser = new ManifestParser();
  readonly #json = new JsonEvents(this.#parser);
  readonly #hash = createHash('sha256');
  /** The beginning of a line whose end has not come yet. */
  #carry: Buffer = Buffer.alloc(0);
  /** The last whole line, which the checksum covers only when another one follows. */
  #lastLine: Buffer = Buffer.alloc(0);
  #hasTwoLines = false;

  /** @param piece borrowed until the call returns @throws ConvoyError */
  push(piece: Uint8Array): void {
    const bytes = Buffer.concat([this.#carry, piece]);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    this.#carry = bytes.subarray(end);
    if (this.#carry.length > MAX_MANIFEST_LINE_BYTES) {
      throw parseFailure(`a line of more than ${MAX_MANIFEST_LINE_BYTES} bytes`);
    }
    if (end > 0) this.#lines(bytes.subarray(0, end));
  }

  /** After the last piece. @throws ConvoyError */
  end(): BackupManifest {
    if (this.#carry.length > 0) this.#parse(this.#carry);
    this.#attempt(() => this.#json.end());
    this.#parser.finish();
    if (!this.#hasTwoLines) throw parseFailure('expected at least 2 lines');
    if (this.#carry.length > 0) throw parseFailure('last line not newline-terminated');
    this.#verifyChecksum();
    const { version, systemIdentifier, files, walRanges } = this.#parser;
    return { version, systemIdentifier, files, walRanges };
  }

  #lines(lines: Buffer): void {
    const lastLineStart = lines.subarray(0, -1).lastIndexOf(NEWLINE) + 1;
    if (this.#lastLine.length > 0 || lastLineStart > 0) this.#hasTwoLines = true;
    this.#hash.update(this.#lastLine);
    this.#hash.update(lines.subarray(0, lastLineStart));
    this.#lastLine = lines.subarray(lastLineStart);
    this.#parse(lines);
  }

  #parse(lines: Buffer): void {
    // PostgreSQL writes a name that is not UTF-8 in hexadecimal
    if (!isUtf8(lines)) throw parseFailure('invalid byte sequence for encoding "UTF8"');
    this.#attempt(() => this.#json.push(lines.toString('utf8')));
  }

  #attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof JsonSyntaxError)) throw error;
      throw parseFailure('parsing failed', error.message);
    }
  }

  #verifyChecksum(): void {
    const { checksum } = this.#parser;
    if (checksum === undefined || !SHA256_HEX.test(checksum)) {
      throw new ConvoyError('file_damaged', `invalid manifest checksum: "${checksum}"`);
    }
    if (this.#hash.digest('hex') !== checksum.toLowerCase()) {
      throw new ConvoyError('file_damaged', 'manifest checksum mismatch');
    }
  }
}

function* pieces(path: string): Generator<Uint8Array> {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    throw fileError('open file', path, error);
  }
  try {
    for (;;) {
      // a new one each time: lines that are not finished yet are views of it
      const buffer = Buffer.allocUnsafe(PIECE_BYTES);
      const bytes = readSync(descriptor, buffer);
      if (bytes === 0) return;
      yield buffer.subarray(0, bytes);
    }
  } catch (error) {
    throw fileError('read file', path, error);
  } finally {
    closeSync(descriptor);
  }
}
