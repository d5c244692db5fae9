/* Rows of a COPY in text format, wherever the stream is cut. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import { TextRowReader } from '../../src/wire/text-copy.js';

function rowsOf(pieces: readonly Buffer[]): (readonly string[])[] {
  const rows: (readonly string[])[] = [];
  const reader = new TextRowReader((row) => rows.push(row));
  for (const piece of pieces) reader.push(piece);
  reader.finish();
  return rows;
}

function cut(bytes: Buffer, pieceBytes: number): Buffer[] {
  const count = Math.ceil(bytes.length / pieceBytes);
  return Array.from({ length: count }, (_, index) =>
    bytes.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
}

function isUntrusted(pattern: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof ConvoyError && error.code === 'untrusted_peer' && pattern.test(error.message);
}

describe('rows of a COPY in text format', () => {
  const text = 'base/1/2\tf\t8192\n\nä\\tö\\\\\\n\t\\b\\f\\r\\v\nlast\t\n';
  const expected = [['base/1/2', 'f', '8192'], [''], ['ä\tö\\\n', '\b\f\r\v'], ['last', '']];
  for (const pieceBytes of [1, 2, 3, 5, 7, 1000]) {
    test(`are found in pieces of ${pieceBytes} bytes`, () => {
      assert.deepEqual(rowsOf(cut(Buffer.from(text), pieceBytes)), expected);
    });
  }

  test('have what looks like a NULL, or like an end, as text', () => {
    const bytes = Buffer.from(String.raw`\\N|\\.|a\\nb|a\q`.replaceAll('|', '\t') + '\n');
    assert.deepEqual(rowsOf([bytes]), [[String.raw`\N`, String.raw`\.`, String.raw`a\nb`, String.raw`a\q`]]);
  });

  test('come in order, however many', () => {
    const paths = Array.from({ length: 20_000 }, (_, index) => [`base/5/${index}`, String(index * 8192)]);
    const bytes = Buffer.from(paths.map((row) => `${row.join('\t')}\n`).join(''));
    assert.deepEqual(rowsOf(cut(bytes, 1013)), paths);
    assert.deepEqual(rowsOf(cut(bytes, 40_000)), paths);
  });

  test('are none where nothing came', () => {
    assert.deepEqual(rowsOf([]), []);
  });

  test('tell bytes that are not UTF-8', () => {
    assert.deepEqual(rowsOf([Buffer.from('caf\xe9\tf\n', 'latin1')]), [['caf\u{fffd}', 'f']]);
  });

  test('are held until they are whole, whatever came before them', () => {
    const filler = `${'x'.repeat(1000)}\n`.repeat(65);
    const bytes = Buffer.concat([Buffer.from(filler), Buffer.from(`${'ü'.repeat(1000)}\n`)]);
    for (const pieceBytes of [1001, 4096, 65_535, 65_536]) {
      const rows = rowsOf(cut(bytes, pieceBytes));
      assert.deepEqual([rows.length, rows.at(-1)], [66, ['ü'.repeat(1000)]]);
    }
  });

  test('have an end', () => {
    assert.throws(() => rowsOf([Buffer.from('base\n1')]), isUntrusted(/ended inside a row/));
    const endless = Array.from({ length: 5 }, () => Buffer.alloc(16 * 1024, 'x'));
    assert.throws(() => rowsOf(endless), isUntrusted(/too long/));
    assert.throws(() => rowsOf([Buffer.alloc(1024 * 1024, 'x')]), isUntrusted(/too long/));
  });
});
