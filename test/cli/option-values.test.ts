/* Messages are pg_basebackup's where it has the option (src/bin/pg_basebackup/pg_basebackup.c). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  canonical,
  parseCheckpoint,
  parseInteger,
  parseManifestChecksums,
  parseMaxRate,
  parseTablespaceMapping,
  parseWalMethod,
} from '../../src/cli/option-values.js';

function accepts<Value>(
  parse: (text: string) => Value,
  values: readonly (readonly [text: string, value: Value])[],
): void {
  for (const [text, value] of values) {
    test(`takes ${JSON.stringify(text)}`, () => assert.deepEqual(parse(text), value));
  }
}

function refuses(
  parse: (text: string) => unknown,
  values: readonly (readonly [text: string, message: string, hint?: string])[],
): void {
  for (const [text, message, hint] of values) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(
        () => parse(text),
        (error) => {
          const {
            code,
            message: said,
            hint: hinted,
          } = error as { code?: string; message?: string; hint?: string };
          assert.deepEqual({ code, said, hinted }, { code: 'usage', said: message, hinted: hint });
          return true;
        },
      );
    });
  }
}

describe('a whole number', () => {
  const parse = parseInteger('-j/--jobs', 1, 512);
  accepts(parse, [
    ['1', 1],
    ['512', 512],
    [' 7 ', 7],
    ['+7', 7],
    ['007', 7],
  ]);
  const outOfRange = '-j/--jobs must be in range 1..512';
  refuses(parse, [
    ['0', outOfRange],
    ['-1', outOfRange],
    ['513', outOfRange],
    ['99999999999999999999', outOfRange],
    ...['', ' ', 'x', '1x', '1.5', '1e2', '0x10', '--1', '1 2', 'Infinity'].map(
      (text) => [text, `invalid value "${text}" for option -j/--jobs`] as const,
    ),
  ]);
});

describe('a rate, as pg_basebackup 18 reads it', () => {
  accepts(parseMaxRate, [
    ['32', 32 * 1024],
    ['32k', 32 * 1024],
    ['1M', 1024 * 1024],
    ['1024M', 1024 * 1024 * 1024],
    ['1048576', 1024 * 1024 * 1024],
    ['0.5M', 512 * 1024],
    ['.5M', 512 * 1024],
    ['100.6', 100 * 1024],
    ['1e3', 1000 * 1024],
    ['+1e-1M', 102 * 1024],
    [' 64 k ', 64 * 1024],
  ]);
  const range = 'between 32 kilobytes and 1 gigabyte a second';
  refuses(parseMaxRate, [
    ['0', 'transfer rate must be greater than zero'],
    ['-64', 'transfer rate must be greater than zero'],
    ['-1G', 'transfer rate must be greater than zero'],
    ['0.1', 'transfer rate "0.1" is out of range', range],
    ['31.6', 'transfer rate "31.6" is out of range', range],
    ['2e9M', 'transfer rate "2e9M" exceeds integer range'],
    ['5e400', 'invalid transfer rate "5e400": Numerical result out of range'],
    ['31', 'transfer rate "31" is out of range', range],
    ['1025M', 'transfer rate "1025M" is out of range', range],
    ['1048577', 'transfer rate "1048577" is out of range', range],
    ['9999999999999999999999', 'transfer rate "9999999999999999999999" is out of range', range],
    ...['', 'fast', '.', 'M'].map((text) => [text, `transfer rate "${text}" is not a valid value`] as const),
    ...[
      ['1G', 'G'],
      ['1m', 'm'],
      ['64K', 'K'],
      ['64kB', 'kB'],
      ['64 k k', 'k k'],
      ['1,5M', ',5M'],
    ].map(([text = '', unit = '']) => [text, `invalid --max-rate unit: "${unit}"`] as const),
  ]);
});

describe('a tablespace mapping', () => {
  accepts(parseTablespaceMapping, [
    ['/old=/new', { from: '/old', to: '/new' }],
    ['/old/=/new//x/', { from: '/old', to: '/new/x' }],
    ['/old/../older=/./new', { from: '/older', to: '/new' }],
    [String.raw`/o\=ld=/new\=er`, { from: '/o=ld', to: '/new=er' }],
    ['/with blank=/x y', { from: '/with blank', to: '/x y' }],
  ]);
  refuses(parseTablespaceMapping, [
    ['/old=/new=/newer', 'multiple "=" signs in tablespace mapping'],
    ...['', '/old', '/old=', '=/new', '=', String.raw`/old\=/new`].map(
      (text) => [text, `invalid tablespace mapping format "${text}", must be "OLDDIR=NEWDIR"`] as const,
    ),
    ['old=/new', 'old directory is not an absolute path in tablespace mapping: old'],
    ['/old=new', 'new directory is not an absolute path in tablespace mapping: new'],
    ['/old=./new', 'new directory is not an absolute path in tablespace mapping: ./new'],
  ]);
});

describe('a path without detours', () => {
  accepts(canonical, [
    ['/a/b', '/a/b'],
    ['/a/b/', '/a/b'],
    ['/a//b/../c/./', '/a/c'],
    ['/', '/'],
    ['/..', '/'],
  ]);
});

describe('a WAL method', () => {
  accepts(parseWalMethod, [
    ['fetch', 'fetch'],
    ['f', 'fetch'],
    ['none', 'none'],
    ['n', 'none'],
    ['stream', 'stream'],
    ['s', 'stream'],
  ]);
  refuses(
    parseWalMethod,
    ['', 'x', 'STREAM', 'fetched'].map(
      (text) => [text, `invalid wal-method option "${text}", must be "fetch", "stream", or "none"`] as const,
    ),
  );
});

describe('a checkpoint', () => {
  accepts(parseCheckpoint, [
    ['fast', true],
    ['FAST', true],
    ['spread', false],
    ['Spread', false],
  ]);
  refuses(
    parseCheckpoint,
    ['', 'slow', 'fast '].map((text) => [
      text,
      `invalid checkpoint argument "${text}", must be "fast" or "spread"`,
    ]),
  );
});

describe('a checksum algorithm', () => {
  accepts(parseManifestChecksums, [
    ['CRC32C', 'CRC32C'],
    ['crc32c', 'CRC32C'],
    ['none', 'NONE'],
    ['Sha224', 'SHA224'],
    ['SHA256', 'SHA256'],
    ['sha384', 'SHA384'],
    ['sha512', 'SHA512'],
  ]);
  refuses(
    parseManifestChecksums,
    ['', 'MD5', 'sha', 'sha-256', 'sha256 '].map((text) => [
      text,
      `unrecognized checksum algorithm: "${text}"`,
      'one of NONE, CRC32C, SHA224, SHA256, SHA384, SHA512',
    ]),
  );
});
