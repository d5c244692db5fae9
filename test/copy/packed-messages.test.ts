/* Messages between threads come out of a structured clone as they went in. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CopySettings, WorkerAnswer, WorkerTask } from '../../src/copy/messages.js';
import { packAnswer, packTask, unpackAnswer, unpackTask } from '../../src/copy/packed-messages.js';
import type { Lsn } from '../../src/lsn.js';
import type { FileToRead } from '../../src/source/source.js';

const SETTINGS: CopySettings = {
  source: {
    kind: 'sql',
    settings: { host: 'h', port: 1, user: 'u' } as never,
    identity: { systemIdentifier: '1' } as never,
    fileMode: 0o600,
    dataChecksums: true,
  },
  target: { kind: 'blackhole' },
  startLsn: 0x0100_0028n as Lsn,
  algorithm: 'CRC32C',
  verifyPageChecksums: true,
  rate: undefined,
  progress: new SharedArrayBuffer(16),
};

const WHOLE: FileToRead = { source: 'base/5/1', target: 'base/5/1', size: 8192, mtime: 1_700_000_000 };
const ELSEWHERE = {
  ...WHOLE,
  source: './pg_tblspc/9/PG_15/5/ü\n',
  target: 'pg_tblspc/9/PG_15/5/ü\n',
  size: 0,
};
const PART: FileToRead = { ...WHOLE, size: 2 ** 40, range: { offset: 2 ** 39, length: 2 ** 20 } };

const SENT = { path: 'base/5/1', size: 2 ** 40, mtime: 0, checksum: '00000000' };

describe('a message between threads', () => {
  const tasks: readonly (readonly [string, WorkerTask])[] = [
    ['whole files', copyOf([WHOLE, ELSEWHERE])],
    ['a part of a file', copyOf([PART])],
    ['no file', copyOf([])],
    ['paths to sync', { kind: 'sync', paths: ['/b', '/a'] }],
    ['a source to connect to', { kind: 'connect', source: SETTINGS.source }],
  ];
  for (const [name, task] of tasks) {
    test(`brings a task: ${name}`, () => {
      assert.deepEqual(withoutUndefined(unpackTask(structuredClone(packTask(task)))), withoutUndefined(task));
    });
  }

  const work = { worker: 3, seconds: 0.25 };
  const copied = {
    kind: 'copied',
    parts: [],
    vanished: [],
    stretches: [],
    hasBadPages: false,
    warnings: [],
  } as const;
  const answers: readonly (readonly [string, WorkerAnswer])[] = [
    ['files', { outcome: { ...copied, files: [SENT, { ...SENT, path: 'ü', checksum: '' }] }, work }],
    [
      'all else that a task brings',
      {
        outcome: {
          ...copied,
          files: [],
          parts: [{ ...SENT, offset: 4096 }],
          vanished: ['gone'],
          hasBadPages: true,
          badPageCount: 2,
          warnings: ['a block'],
        },
        work,
      },
    ],
    ['a failure', { outcome: { kind: 'failed', error: { code: 'target_io', message: 'full' } }, work }],
    [
      'a lost connection',
      { outcome: { kind: 'connection_lost', error: { code: 'connection_lost', message: 'gone' } }, work },
    ],
  ];
  for (const [name, answer] of answers) {
    test(`brings an answer: ${name}`, () => {
      assert.deepEqual(unpackAnswer(structuredClone(packAnswer(answer))), answer);
    });
  }
});

test('columns that do not fit together are an error, not files without a size', () => {
  const packed = packTask(copyOf([WHOLE, ELSEWHERE]));
  assert.ok(packed.kind === 'copy');
  for (const column of [{ size: [8192] }, { range: [] }]) {
    const files = { ...packed.task.files, ...column };
    assert.throws(() => unpackTask({ ...packed, task: { ...packed.task, files } }), TypeError);
  }
});

function copyOf(files: readonly FileToRead[]): WorkerTask {
  return { kind: 'copy', settings: SETTINGS, task: { files, slot: 7, turn: 2 } };
}

/** A file without a range may say so. */
function withoutUndefined(task: WorkerTask): unknown {
  if (task.kind !== 'copy') return task;
  const files = task.task.files.map(({ range, ...file }) =>
    range === undefined ? file : { ...file, range },
  );
  return { ...task, task: { ...task.task, files } };
}
