/*
 * JSON as a row of events, from text that comes line by line: a manifest of millions of files is never in memory whole.
 * No token of JSON goes over the end of a line, so whole lines are all that it asks for. Called by manifest-parser.ts.
 * Twin of the parser with semantic actions in PostgreSQL's src/common/jsonapi.c: events come in the same order.
 */

/** Who is told what the text holds. Throws what the text should not hold. */
export interface JsonReceiver {
  objectStart(): void;
  objectEnd(): void;
  arrayStart(): void;
  arrayEnd(): void;
  /** The name of a field; its value follows. */
  field(name: string): void;
  /** The text of a string, or the token itself: `12`, `true`, `null`. */
  scalar(text: string): void;
}

/** What may come next. */
type Expected = 'value' | 'value-or-end' | 'field' | 'field-or-end' | 'colon' | 'comma-or-end' | 'nothing';

/** Below a space: not allowed in a string as it is. */
const CONTROL = /[^\u0020-\u{10FFFF}]/u;
const WORD = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])|(?:true|false|null)(?!\w)/y;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** The text is no JSON. Says where it stopped being so. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError';
  readonly line: number;

  constructor(line: number) {
    super(`line ${line} is not JSON`);
    this.line = line;
  }
}

export class JsonEvents {
  readonly #receiver: JsonReceiver;
  /** True for an object, false for an array; the innermost last. */
  readonly #open: boolean[] = [];
  #expected: Expected = 'value';
  #text = '';
  #at = 0;
  #linesBefore = 0;
  /** Of the text at hand: where the next backslash is, so that strings without one are not searched for it. */
  #backslash = -1;

  constructor(receiver: JsonReceiver) {
    this.#receiver = receiver;
  }

  /** @param text whole lines @throws JsonSyntaxError, and what the receiver throws */
  push(text: string): void {
    this.#text = text;
    this.#backslash = nextIndex(text, '\\', 0);
    for (this.#at = 0; this.#at < text.length;) this.#token(text.charCodeAt(this.#at));
    this.#linesBefore += countLines(text, text.length);
  }

  /** After the last line. @throws JsonSyntaxError where something is still open */
  end(): void {
    if (this.#expected !== 'nothing') throw new JsonSyntaxError(Math.max(1, this.#linesBefore));
  }

  /** The line that is being read, from 1 on. */
  get line(): number {
    return this.#linesBefore + countLines(this.#text, this.#at) + 1;
  }

  #token(code: number): void {
    switch (code) {
      case 0x20: // space
      case 0x0a:
      case 0x09:
      case 0x0d:
        this.#at += 1;
        return;
      case 0x22: // "
        return this.#string();
      case 0x2c: // ,
        if (this.#expected !== 'comma-or-end') this.#fail();
        this.#expected = this.#open.at(-1) === true ? 'field' : 'value';
        this.#at += 1;
        return;
      case 0x3a: // :
        if (this.#expected !== 'colon') this.#fail();
        this.#expected = 'value';
        this.#at += 1;
        return;
      case 0x7b: // {
        return this.#begin(true);
      case 0x5b: // [
        return this.#begin(false);
      case 0x7d: // }
        return this.#end(true);
      case 0x5d: // ]
        return this.#end(false);
      default:
        return this.#word();
    }
  }

  #begin(isObject: boolean): void {
    this.#expectValue();
    if (isObject) this.#receiver.objectStart();
    else this.#receiver.arrayStart();
    this.#open.push(isObject);
    this.#expected = isObject ? 'field-or-end' : 'value-or-end';
    this.#at += 1;
  }

  #end(isObject: boolean): void {
    const first = isObject ? 'field-or-end' : 'value-or-end';
    if (this.#open.at(-1) !== isObject) this.#fail();
    if (this.#expected !== 'comma-or-end' && this.#expected !== first) this.#fail();
    if (isObject) this.#receiver.objectEnd();
    else this.#receiver.arrayEnd();
    this.#open.pop();
    this.#valueEnded();
    this.#at += 1;
  }

  #string(): void {
    const isField = this.#expected === 'field' || this.#expected === 'field-or-end';
    if (!isField) this.#expectValue();
    const first = this.#at + 1;
    let end = nextIndex(this.#text, '"', first);
    let hasEscapes = false;
    while (this.#backslash < end) {
      hasEscapes = true;
      // what a backslash stands before is no end, and no backslash of its own
      if (this.#backslash + 1 === end) end = nextIndex(this.#text, '"', end + 1);
      this.#backslash = nextIndex(this.#text, '\\', this.#backslash + 2);
    }
    if (end >= this.#text.length) this.#fail();
    const raw = this.#text.slice(first, end);
    if (CONTROL.test(raw)) this.#fail();
    const text = hasEscapes ? this.#unescape(raw) : raw;
    if (isField) this.#receiver.field(text);
    else this.#receiver.scalar(text);
    if (isField) this.#expected = 'colon';
    else this.#valueEnded();
    this.#at = end + 1;
  }

  /** What PostgreSQL's text cannot hold, half a surrogate pair or a NUL, is no JSON to it either. */
  #unescape(raw: string): string {
    let text: string;
    try {
      text = JSON.parse(`"${raw}"`) as string;
    } catch {
      this.#fail();
    }
    if (LONE_SURROGATE.test(text) || text.includes('\0')) this.#fail();
    return text;
  }

  #word(): void {
    this.#expectValue();
    WORD.lastIndex = this.#at;
    const word = WORD.exec(this.#text)?.[0];
    if (word === undefined) this.#fail();
    this.#receiver.scalar(word);
    this.#valueEnded();
    this.#at += word.length;
  }

  #valueEnded(): void {
    this.#expected = this.#open.length === 0 ? 'nothing' : 'comma-or-end';
  }

  #expectValue(): void {
    if (this.#expected !== 'value' && this.#expected !== 'value-or-end') this.#fail();
  }

  #fail(): never {
    throw new JsonSyntaxError(this.line);
  }
}

/** Like indexOf, with the text's length for "nowhere". */
function nextIndex(text: string, character: string, from: number): number {
  const index = text.indexOf(character, from);
  return index < 0 ? text.length : index;
}

function countLines(text: string, end: number): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0 && at < end; at = text.indexOf('\n', at + 1)) lines += 1;
  return lines;
}
