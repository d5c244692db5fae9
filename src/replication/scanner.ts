/*
 * Tokens of the replication grammar, as in PostgreSQL's repl_scanner.l: upper-case words, strings in single
 * quotes with '' for a quote and no backslash escapes, unsigned numbers, parentheses and commas. Used by command.ts.
 */
import { ConvoyError } from '../errors.js';

const SPACE = /[ \t\r\n\f\v]*/y;
const WORD = /[A-Za-z_\u0080-\u{10ffff}][A-Za-z0-9_$\u0080-\u{10ffff}]*/uy;
const STRING = /'(?:[^']|'')*'/y;
const UNSIGNED = /\d+/y;

export class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** The next word, or an empty string where something else stands. */
  word(): string {
    return this.#match(WORD) ?? '';
  }

  optionalWord(): string | undefined {
    return this.#match(WORD);
  }

  string(): string {
    const token = this.#match(STRING);
    if (token === undefined) throw this.unexpected(this.#rest());
    return token.slice(1, -1).replaceAll("''", "'");
  }

  unsigned(): number {
    const token = this.#match(UNSIGNED);
    if (token === undefined) throw this.unexpected(this.#rest());
    const value = Number(token);
    // UCONST is a uint32 there
    if (value > 0xffff_ffff) throw this.unexpected(token);
    return value;
  }

  /** `( 'a', 'b' )`, at least one; undefined where no parenthesis stands. */
  optionalStringList(): string[] | undefined {
    if (!this.#symbol('(')) return undefined;
    const strings: string[] = [];
    do {
      strings.push(this.string());
    } while (this.#symbol(','));
    if (!this.#symbol(')')) throw this.unexpected(this.#rest());
    return strings;
  }

  /** The end of the command, after an optional semicolon. */
  end(): void {
    this.#symbol(';');
    this.#skipSpace();
    if (this.#at < this.#text.length) throw this.unexpected(this.#rest());
  }

  unexpected(token: string): ConvoyError {
    const shown = token.length > 60 ? `${token.slice(0, 60)}...` : token;
    const message = shown === '' ? 'syntax error at end of input' : `syntax error at or near "${shown}"`;
    return new ConvoyError('usage', message, { sqlState: '42601' });
  }

  #symbol(symbol: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== symbol) return false;
    this.#at += 1;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    this.#skipSpace();
    pattern.lastIndex = this.#at;
    const token = pattern.exec(this.#text)?.[0];
    if (token !== undefined) this.#at += token.length;
    return token;
  }

  #skipSpace(): void {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
  }

  #rest(): string {
    return this.#text.slice(this.#at);
  }
}
