/* Messages are those of pg_basebackup 15 and 18 where it has the case; each was read off the program. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCompression, refuseServerCompression } from '../../src/cli/compression-option.js';

const EMPTY = 'found empty string where a compression option was expected';
const BOOLEAN = 'value for compression option "long" must be a Boolean value';
const GZIP_LEVELS =
  'compression algorithm "gzip" expects a compression level between 1 and 9 (default at -1)';

describe('-Z takes', () => {
  for (const [text, method, level] of [
    ['0', 'none', undefined],
    ['1', 'gzip', 1],
    ['9', 'gzip', 9],
    ['-1', 'gzip', undefined],
    ['none', 'none', undefined],
    ['gzip', 'gzip', undefined],
    ['gzip:5', 'gzip', 5],
    ['gzip: 5', 'gzip', 5],
    ['gzip:-1', 'gzip', undefined],
    ['gzip:level=3', 'gzip', 3],
    ['client-gzip:5', 'gzip', 5],
    ['lz4', 'lz4', undefined],
    ['lz4:0', 'lz4', undefined],
    ['lz4:1', 'lz4', 1],
    ['lz4:9', 'lz4', 9],
    ['client-lz4:level=12', 'lz4', 12],
    ['zstd', 'zstd', undefined],
    ['client-zstd', 'zstd', undefined],
    ['zstd:-8', 'zstd', -8],
    ['zstd:22', 'zstd', 22],
    ['zstd:3', 'zstd', undefined],
    ['zstd:level=3,level=4', 'zstd', 4],
  ] as const) {
    test(JSON.stringify(text), () => {
      const { method: found, level: foundLevel } = parseCompression(text);
      assert.deepEqual([found, foundLevel], [method, level]);
    });
  }

  test('a number of threads for zstd, which -j says here', () => {
    const { method, level, hasWorkers, hasLongDistance } = parseCompression('zstd:level=5,workers=2');
    assert.deepEqual([method, level, hasWorkers, hasLongDistance], ['zstd', 5, true, false]);
  });

  for (const [text, isAsked] of [
    ['zstd:long', true],
    ['zstd:long=yes', true],
    ['zstd:long=on', true],
    ['zstd:long=1,level=5', true],
    ['zstd:long=no', false],
    ['zstd:long=off', false],
    ['zstd:level=5,long=0', false],
  ] as const) {
    test(`${text}, which has no effect`, () => {
      const { method, hasLongDistance } = parseCompression(text);
      assert.deepEqual([method, hasLongDistance], ['zstd', isAsked]);
    });
  }
});

describe('-Z refuses', () => {
  for (const [text, message] of [
    ['10', `invalid compression specification: ${GZIP_LEVELS}`],
    ['', 'unrecognized compression algorithm: ""'],
    ['foo', 'unrecognized compression algorithm: "foo"'],
    ['GZIP', 'unrecognized compression algorithm: "GZIP"'],
    ['5x', 'unrecognized compression algorithm: "5x"'],
    [':3', 'unrecognized compression algorithm: ""'],
    ['client-5', 'unrecognized compression algorithm: "5"'],
    [
      'none:3',
      'invalid compression specification: compression algorithm "none" does not accept a compression level',
    ],
    ['gzip:0', `invalid compression specification: ${GZIP_LEVELS}`],
    ['gzip:10', `invalid compression specification: ${GZIP_LEVELS}`],
    ['gzip:x', 'invalid compression specification: unrecognized compression option: "x"'],
    ['gzip:', `invalid compression specification: ${EMPTY}`],
    ['gzip:level', 'invalid compression specification: compression option "level" requires a value'],
    [
      'gzip:level=',
      'invalid compression specification: value for compression option "level" must be an integer',
    ],
    [
      'gzip:level=x',
      'invalid compression specification: value for compression option "level" must be an integer',
    ],
    ['gzip:foo=1', 'invalid compression specification: unrecognized compression option: "foo"'],
    [
      'gzip:workers=2',
      'invalid compression specification: compression algorithm "gzip" does not accept a worker count',
    ],
    ['gzip:level=3,,', `invalid compression specification: ${EMPTY}`],
    [
      'lz4:-1',
      'invalid compression specification: compression algorithm "lz4" expects a compression level between 1 and 12 (default at 0)',
    ],
    [
      'lz4:13',
      'invalid compression specification: compression algorithm "lz4" expects a compression level between 1 and 12 (default at 0)',
    ],
    [
      'zstd:23',
      'invalid compression specification: compression algorithm "zstd" expects a compression level between -131072 and 22 (default at 3)',
    ],
    [
      'lz4:long',
      'invalid compression specification: compression algorithm "lz4" does not support long-distance mode',
    ],
    ['zstd:workers', 'invalid compression specification: compression option "workers" requires a value'],
    ['zstd:3,level=4', 'invalid compression specification: unrecognized compression option: "3"'],
    ['zstd:long=maybe', `invalid compression specification: ${BOOLEAN}`],
    ['zstd:long=', `invalid compression specification: ${BOOLEAN}`],
    ['zstd:long=true', `invalid compression specification: ${BOOLEAN}`],
    ['gzip:long=maybe', `invalid compression specification: ${BOOLEAN}`],
    [
      'gzip:long=no',
      'invalid compression specification: compression algorithm "gzip" does not support long-distance mode',
    ],
    ['gzip:long,foo', 'invalid compression specification: unrecognized compression option: "foo"'],
  ] as const) {
    test(JSON.stringify(text), () => {
      assert.throws(() => parseCompression(text), { code: 'usage', message });
    });
  }
});

describe('compression on the server is refused', () => {
  for (const [text, hasBackupTarget] of [
    ['server-gzip', false],
    ['server-', false],
    ['server-zstd:nonsense', true],
    ['gzip', true],
    ['5', true],
  ] as const) {
    test(`${text}${hasBackupTarget ? ' with a backup target' : ''}`, () => {
      const message = `cannot compress on the server: "${text}"`;
      const compression = parseCompression(text);
      assert.throws(() => refuseServerCompression(compression, hasBackupTarget), { code: 'usage', message });
    });
  }

  for (const text of ['none', '0']) {
    test(`but not "${text}" with a backup target`, () => {
      refuseServerCompression(parseCompression(text), true);
    });
  }
});
