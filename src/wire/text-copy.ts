/*
 * Takes a COPY in text format apart into rows of strings, many at a time: of long answers with short rows that costs
 * far less than DataRow messages do. Format: PostgreSQL's documentation of COPY, "Text Format".
 */
import { ConvoyError } from '../errors.js';
import { MAX_TEXT_ROW_BYTES } from '../limits.js';

const NEWLINE = 0x0a;

/** Those that COPY TO writes. */
const ESCAPE = /\\([bfnrtv\\])/g;
const ESCAPED = new Map([
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
  ['\\', '\\'],
]);

export class TextRowReader {
  readonly #row: (fields: readonly string[]) => void;
  readonly #held = Buffer.allocUnsafeSlow(MAX_TEXT_ROW_BYTES);
  #bytes = 0;

  /** @param row takes each row in order; no field may be NULL, it would come as "\N" */
  constructor(row: (fields: readonly string[]) => void) {
    this.#row = row;
  }

  /**
   * @param piece borrowed; of one CopyData, which is one row
   * @throws ConvoyError `untrusted_peer` for a row without an end, and whatever the taker of rows throws
   */
  push(piece: Buffer): undefined {
    if (this.#bytes + piece.length > MAX_TEXT_ROW_BYTES) this.#handOn();
    if (this.#bytes + piece.length > MAX_TEXT_ROW_BYTES) {
      throw new ConvoyError('untrusted_peer', 'a row in the copy stream is too long');
    }
    this.#held.set(piece, this.#bytes);
    this.#bytes += piece.length;
  }

  /** @throws ConvoyError where the stream stopped before its end */
  finish(): void {
    this.#handOn();
    if (this.#bytes > 0) throw new ConvoyError('untrusted_peer', 'the copy stream ended inside a row');
  }

  #handOn(): void {
    const end = this.#held.lastIndexOf(NEWLINE, this.#bytes - 1);
    if (this.#bytes === 0 || end === -1) return;
    const text = this.#held.toString('utf8', 0, end);
    this.#held.copyWithin(0, end + 1, this.#bytes);
    this.#bytes -= end + 1;
    for (const line of text.split('\n')) this.#row(fieldsOf(line));
  }
}

function fieldsOf(line: string): readonly string[] {
  const fields = line.split('\t');
  return line.includes('\\') ? fields.map(unescaped) : fields;
}

function unescaped(field: string): string {
  return field.replaceAll(ESCAPE, (escape, letter: string) => ESCAPED.get(letter) ?? escape);
}
