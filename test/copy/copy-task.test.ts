/* One task with a reader and a target that the test plays. Checksums are those of node:crypto, and PostgreSQL's for CRC-32C. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { ChecksumAlgorithm } from '../../src/checksum.js';
import { copyTask } from '../../src/copy/copy-task.js';
import type { CopyTools } from '../../src/copy/paced-file.js';
import { ProgressCounters } from '../../src/progress-counters.js';
import { ConvoyError } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import type { FileReader, FileReceiver } from '../../src/source/source.js';
import { createRateBudget, RateLimit } from '../../src/target/rate-limit.js';
import type { Target, TargetFile, TurnOrder } from '../../src/target/target.js';

interface Written extends TargetFile {
  content: string;
  state: 'open' | 'finished' | 'abandoned';
}

/** A target in memory. */
class PlayedTarget implements Target {
  readonly files: Written[] = [];
  /** By path: what an earlier try has fixed. */
  readonly fixedSizes = new Map<string, number>();
  failAt: 'create' | 'write' | 'finish' | 'commit' | undefined;
  canTakeBack = true;
  turns: TurnOrder | undefined;
  /** Of the task. */
  end: 'committed' | 'rolled back' | undefined;

  createFile(file: TargetFile): ReturnType<Target['createFile']> {
    const written: Written = { ...file, content: '', state: 'open' };
    this.#failAt('create');
    this.files.push(written);
    return {
      size: this.fixedSizes.get(file.path) ?? file.size,
      write: (chunk) => {
        this.#failAt('write');
        written.content += Buffer.from(chunk).toString();
        return undefined;
      },
      finish: () => {
        this.#failAt('finish');
        written.state = 'finished';
      },
      abandon: () => (written.state = 'abandoned'),
    };
  }

  commit(): Promise<[]> {
    this.#failAt('commit');
    this.end = 'committed';
    return Promise.resolve([]);
  }

  rollback(): Promise<boolean> {
    this.end = 'rolled back';
    return Promise.resolve(this.canTakeBack);
  }

  #failAt(step: 'create' | 'write' | 'finish' | 'commit'): void {
    if (this.failAt === step) throw new ConvoyError('target_io', `could not ${step} file`);
  }
}

type Play = (receiver: FileReceiver) => Promise<void> | void;

function readerThat(play: Play, result = { hasBadPages: false, warnings: [] as string[] }): FileReader {
  return {
    read: async (_files, _options, receiver) => {
      await play(receiver);
      return result;
    },
    destroy: () => {},
  };
}

const FILES = ['a', 'b', 'c'].map((target) => ({ source: `./${target}`, target, size: 5, mtime: 1 }));
const READ = { startLsn: 40n as Lsn, verifyPageChecksums: true };
const ATTRIBUTES = { mode: 0o600, mtime: 1_700_000_000 };

function send(receiver: FileReceiver, index: number, ...chunks: readonly string[]): void {
  receiver.begin(index, { ...ATTRIBUTES, size: chunks.join('').length });
  for (const chunk of chunks) void receiver.data(Buffer.from(chunk));
  receiver.end();
}

interface Stage {
  readonly target: PlayedTarget;
  readonly progress: ProgressCounters;
  readonly tools: CopyTools;
}

function stage(algorithm: ChecksumAlgorithm = 'SHA256'): Stage {
  const target = new PlayedTarget();
  const progress = new ProgressCounters();
  return { target, progress, tools: { target, algorithm, rate: undefined, progress } };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

describe('a task that goes well', () => {
  test('writes, checksums and counts what comes', async () => {
    const { target, progress, tools } = stage();
    const reader = readerThat((receiver) => {
      send(receiver, 0, 'he', 'll', 'o');
      send(receiver, 1);
      send(receiver, 2, 'longer than listed');
    });
    const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
    assert.deepEqual(outcome, {
      kind: 'copied',
      files: [
        { path: 'a', size: 5, mtime: ATTRIBUTES.mtime, checksum: sha256('hello') },
        { path: 'b', size: 0, mtime: ATTRIBUTES.mtime, checksum: sha256('') },
        { path: 'c', size: 18, mtime: ATTRIBUTES.mtime, checksum: sha256('longer than listed') },
      ],
      parts: [],
      vanished: [],
      stretches: [],
      hasBadPages: false,
      warnings: [],
    });
    assert.deepEqual(
      target.files.map(({ path, content, state, mode, mtime }) => ({ path, content, state, mode, mtime })),
      [
        { path: 'a', content: 'hello', state: 'finished', ...ATTRIBUTES },
        { path: 'b', content: '', state: 'finished', ...ATTRIBUTES },
        { path: 'c', content: 'longer than listed', state: 'finished', ...ATTRIBUTES },
      ],
    );
    assert.deepEqual(progress.read(), { bytes: 23, files: 3 });
  });

  for (const [algorithm, checksum] of [
    ['NONE', ''],
    // select of PostgreSQL's own manifest: the CRC of "123456789" is e3069283, least significant byte first
    ['CRC32C', '839206e3'],
    ['SHA224', createHash('sha224').update('123456789').digest('hex')],
    ['SHA384', createHash('sha384').update('123456789').digest('hex')],
    ['SHA512', createHash('sha512').update('123456789').digest('hex')],
  ] as const) {
    test(`has checksums of ${algorithm}, over the pieces`, async () => {
      const { tools } = stage(algorithm);
      const reader = readerThat((receiver) => send(receiver, 0, '1234', '5', '6789'));
      const outcome = await copyTask({ files: FILES.slice(0, 1), slot: 0 }, reader, READ, tools);
      assert.equal(outcome.kind === 'copied' && outcome.files[0]?.checksum, checksum);
    });
  }

  test('cuts and fills files to the size that an earlier try has fixed', async () => {
    const { target, tools } = stage();
    target.fixedSizes.set('a', 3).set('b', 6);
    const reader = readerThat((receiver) => {
      send(receiver, 0, 'he', 'll', 'o');
      send(receiver, 1, 'hello');
    });
    const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
    assert.deepEqual(outcome.kind === 'copied' && outcome.files, [
      { path: 'a', size: 3, mtime: ATTRIBUTES.mtime, checksum: sha256('hel') },
      { path: 'b', size: 6, mtime: ATTRIBUTES.mtime, checksum: sha256('hello\0') },
    ]);
    assert.deepEqual(
      target.files.map(({ content, slot }) => ({ content, slot })),
      [
        { content: 'hel', slot: 0 },
        { content: 'hello\0', slot: 1 },
      ],
    );
  });

  test('says which files had vanished', async () => {
    const { tools } = stage();
    const outcome = await copyTask(
      { files: FILES, slot: 0 },
      readerThat((receiver) => send(receiver, 1, 'x')),
      READ,
      tools,
    );
    assert.deepEqual(outcome.kind === 'copied' && outcome.vanished, ['a', 'c']);
  });

  test('passes on damaged pages and warnings', async () => {
    const { tools } = stage();
    const reader = readerThat(() => {}, { hasBadPages: true, warnings: ['block 7'] });
    const outcome = await copyTask({ files: [], slot: 0 }, reader, READ, tools);
    assert.deepEqual(outcome, {
      kind: 'copied',
      files: [],
      parts: [],
      vanished: [],
      stretches: [],
      hasBadPages: true,
      warnings: ['block 7'],
    });
  });

  test('gives the outcome as plain data, for the way between threads', async () => {
    const { tools } = stage();
    const outcome = await copyTask(
      { files: FILES, slot: 0 },
      readerThat((receiver) => send(receiver, 0, 'x')),
      READ,
      tools,
    );
    assert.deepEqual(structuredClone(outcome), outcome);
  });

  test('asks the source to wait while the rate limit says so', async () => {
    const { tools } = stage();
    let now = 10n ** 12n;
    const rate = new RateLimit(createRateBudget(), 1000, () => now);
    const waits: boolean[] = [];
    const reader = readerThat(async (receiver) => {
      receiver.begin(0, { ...ATTRIBUTES, size: 126 });
      waits.push(receiver.data(Buffer.alloc(125)) !== undefined);
      const wait = receiver.data(Buffer.alloc(1));
      waits.push(wait !== undefined);
      await wait;
      now += 10n ** 9n;
      receiver.end();
    });
    const outcome = await copyTask({ files: FILES.slice(0, 1), slot: 0 }, reader, READ, { ...tools, rate });
    assert.equal(outcome.kind, 'copied');
    assert.deepEqual(waits, [false, true]);
  });
});

describe('a part of a file that has its turn', () => {
  const MiB = 2 ** 20;
  const [first, later] = [0, MiB].map((offset) => ({
    files: [{ source: './a', target: 'a', size: 2 * MiB, mtime: 1, range: { offset, length: MiB } }],
    slot: 7,
    turn: offset / MiB,
  }));

  /** What happens, in order. */
  function inTurn(target: PlayedTarget, hasBegun: boolean): string[] {
    const log: string[] = [];
    target.turns = {
      await: (turn) => Promise.resolve(void log.push(`turn ${turn}`)),
      hasBegun: (slot) => (log.push(`begun ${slot}?`), hasBegun),
      pass: () => log.push(`pass, ${target.end}`),
    };
    return log;
  }

  const sendPart: Play = (receiver) => {
    receiver.begin(0, { ...ATTRIBUTES, size: MiB });
    void receiver.data(Buffer.alloc(MiB, 'x'));
    receiver.end();
  };

  test('waits for it, and passes it on with its commit', async () => {
    assert.ok(first !== undefined && later !== undefined);
    const { target, tools } = stage();
    const log = inTurn(target, true);
    await copyTask(first, readerThat(sendPart), READ, tools);
    const outcome = await copyTask(later, readerThat(sendPart), READ, tools);
    assert.deepEqual(log, ['turn 0', 'pass, committed', 'turn 1', 'begun 7?', 'pass, committed']);
    assert.equal(outcome.kind === 'copied' && outcome.parts[0]?.offset, MiB);
  });

  test('has whole files behind it: they wait before they are read', async () => {
    const { target, tools } = stage();
    const log = inTurn(target, true);
    const reader = readerThat((receiver) => {
      log.push('read');
      send(receiver, 0, 'hello');
    });
    await copyTask({ files: FILES.slice(0, 1), slot: 8, turn: 2 }, reader, READ, tools);
    assert.deepEqual(log, ['turn 2', 'read']);
    assert.equal(target.end, 'committed');
  });

  test('is zeros where the file vanished after its first part', async () => {
    assert.ok(later !== undefined);
    const { target, tools } = stage();
    inTurn(target, true);
    const outcome = await copyTask(
      later,
      readerThat(() => {}),
      READ,
      tools,
    );
    assert.ok(outcome.kind === 'copied');
    const checksum = createHash('sha256').update(Buffer.alloc(MiB)).digest('hex');
    assert.deepEqual(outcome.parts, [{ path: 'a', size: MiB, mtime: 1, checksum, offset: MiB }]);
    assert.deepEqual(outcome.vanished, []);
    assert.equal(target.files[0]?.content, '\0'.repeat(MiB));
    assert.equal(target.end, 'committed');
  });

  test('is dropped where the first part had vanished', async () => {
    assert.ok(later !== undefined);
    const { target, progress, tools } = stage();
    const log = inTurn(target, false);
    const outcome = await copyTask(later, readerThat(sendPart), READ, tools);
    assert.ok(outcome.kind === 'copied');
    assert.deepEqual([outcome.parts, outcome.vanished], [[], ['a']]);
    assert.deepEqual(log.at(-1), 'pass, committed');
    assert.deepEqual(progress.read(), { bytes: 0, files: 0 });
  });

  test('keeps its turn where its connection broke', async () => {
    assert.ok(later !== undefined);
    const { target, tools } = stage();
    const log = inTurn(target, true);
    const reader = readerThat(() => {
      throw new ConvoyError('connection_lost', 'lost connection');
    });
    assert.equal((await copyTask(later, reader, READ, tools)).kind, 'connection_lost');
    assert.deepEqual(log, []);
  });
});

describe('a task that fails', () => {
  test('may be tried again after a lost connection; what it counted is taken back', async () => {
    const { target, progress, tools } = stage();
    progress.add(1000, 10);
    const reader = readerThat((receiver) => {
      send(receiver, 0, 'hello');
      receiver.begin(1, { ...ATTRIBUTES, size: 100 });
      void receiver.data(Buffer.from('half'));
      throw new ConvoyError('connection_lost', 'lost connection', { sqlState: '57P01' });
    });
    const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
    assert.deepEqual(outcome, {
      kind: 'connection_lost',
      error: { code: 'connection_lost', message: 'lost connection', sqlState: '57P01' },
    });
    assert.deepEqual(
      target.files.map(({ state }) => state),
      ['finished', 'abandoned'],
    );
    assert.deepEqual(progress.read(), { bytes: 1000, files: 10 });
    assert.deepEqual(structuredClone(outcome), outcome);
  });

  for (const sqlState of ['57014', '40001']) {
    test(`may be tried again after the server ended its statement: ${sqlState}`, async () => {
      const { tools } = stage();
      const reader = readerThat(() => {
        throw new ConvoyError('server_error', 'ERROR: canceling statement', { sqlState });
      });
      const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
      assert.equal(outcome.kind, 'connection_lost');
    });
  }

  test('for good where its files cannot be taken back', async () => {
    const { target, tools } = stage();
    target.canTakeBack = false;
    const reader = readerThat(() => {
      throw new ConvoyError('connection_lost', 'lost connection');
    });
    const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
    assert.deepEqual(outcome, {
      kind: 'failed',
      error: {
        code: 'connection_lost',
        message: 'lost connection',
        hint: 'what a task has begun to write here cannot be written again',
      },
    });
  });

  test('for good where its files cannot be committed, and it takes its counts back', async () => {
    const { target, progress, tools } = stage();
    target.failAt = 'commit';
    const reader = readerThat((receiver) => send(receiver, 0, 'hello'));
    const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
    assert.equal(outcome.kind, 'failed');
    assert.equal(target.end, 'rolled back');
    assert.deepEqual(progress.read(), { bytes: 0, files: 0 });
  });

  for (const step of ['create', 'write', 'finish'] as const) {
    test(`for good where the target cannot ${step} a file`, async () => {
      const { target, progress, tools } = stage();
      target.failAt = step;
      const reader = readerThat((receiver) => send(receiver, 0, 'hello'));
      const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
      assert.deepEqual(outcome, {
        kind: 'failed',
        error: { code: 'target_io', message: `could not ${step} file` },
      });
      assert.ok(target.files.every(({ state }) => state === 'abandoned'));
      assert.deepEqual(progress.read(), { bytes: 0, files: 0 });
    });
  }

  test('for good where anything else is thrown', async () => {
    const { tools } = stage();
    const reader = readerThat(() => {
      throw new TypeError('a mistake of ours');
    });
    const outcome = await copyTask({ files: FILES, slot: 0 }, reader, READ, tools);
    assert.deepEqual(outcome, {
      kind: 'failed',
      error: { code: 'worker_failed', message: 'a mistake of ours' },
    });
  });
});
