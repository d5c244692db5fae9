/*
 * What every kind of source keeps to (src/source/source.ts): one suite, run for each of them. The cluster behind it is at rest,
 * has a tablespace outside its data directory and at least one file larger than a socket's buffers.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConvoyError } from '../../src/errors.js';
import { CONTROL_FILE_PATH, parseControlFile } from '../../src/pgdata/control-file.js';
import { parseBackupLabel } from '../../src/pgdata/backup-label.js';
import type {
  BackupSource,
  FileReader,
  FileReceiver,
  ReadOptions,
  SourceFile,
  StopReceiver,
} from '../../src/source/source.js';

export interface SourceSetup {
  readonly source: BackupSource;
  openReader(): Promise<FileReader>;
  /** The bytes of a listed file, read by other means. */
  contentOf(file: SourceFile): Promise<Buffer>;
  /** A file of which one page is damaged; undefined where the server is only played. */
  readonly damaged?: { readonly target: string; readonly block: number } | undefined;
  /** Ends the source's connection from the server's side. */
  dropConnection(): void | Promise<void>;
}

const OPTIONS = { label: 'contract', fastCheckpoint: true, includeWal: false };
const LIMIT = { timeout: 60_000 };

/** Collects what is read; fails where the order begin, data*, end is broken, or bytes are too many or too few. */
class Collector implements FileReceiver, StopReceiver {
  readonly content = new Map<number | string, Buffer>();
  /** What `data` returns. */
  wait: Promise<void> | undefined;
  taken = 0;
  #current: { readonly key: number | string; readonly size: number; readonly chunks: Buffer[] } | undefined;
  #lastIndex = -1;

  begin(
    keyOrMember: number | { readonly path: string; readonly size: number },
    file?: { readonly size: number },
  ): void {
    assert.equal(this.#current, undefined);
    const key = typeof keyOrMember === 'number' ? keyOrMember : keyOrMember.path;
    const { size } = typeof keyOrMember === 'number' ? (file ?? { size: 0 }) : keyOrMember;
    if (typeof key === 'number') {
      assert.ok(key > this.#lastIndex, 'in ascending order');
      this.#lastIndex = key;
    }
    this.#current = { key, size, chunks: [] };
  }

  data(chunk: Buffer): Promise<void> | undefined {
    assert.ok(this.#current !== undefined && chunk.length > 0);
    this.#current.chunks.push(Buffer.from(chunk));
    this.taken += chunk.length;
    return this.wait;
  }

  end(): void {
    assert.ok(this.#current !== undefined);
    const whole = Buffer.concat(this.#current.chunks);
    assert.equal(whole.length, this.#current.size);
    this.content.set(this.#current.key, whole);
    this.#current = undefined;
  }
}

export function sourceContract(name: string, prepare: (t: TestContext) => Promise<SourceSetup>): void {
  async function started(
    t: TestContext,
  ): Promise<SourceSetup & { readonly files: readonly SourceFile[]; readonly read: ReadOptions }> {
    const setup = await prepare(t);
    t.after(() => setup.source.destroy());
    const { startLsn } = await setup.source.start(OPTIONS);
    const { files } = await setup.source.list();
    return { ...setup, files, read: { startLsn, verifyPageChecksums: true } };
  }

  async function reader(t: TestContext, setup: SourceSetup): Promise<FileReader> {
    const opened = await setup.openReader();
    t.after(() => opened.destroy());
    return opened;
  }

  describe(name, LIMIT, () => {
    test('start, list, read, stop: a whole backup', async (t) => {
      const setup = await prepare(t);
      const { source } = setup;
      t.after(() => source.destroy());
      const start = await source.start(OPTIONS);
      const { files, directories } = await source.list();
      assertPlainList([...directories, ...files]);
      assert.equal(start.tablespaces.length, 1);
      assert.ok(files.some((file) => file.tablespace === start.tablespaces[0]?.oid));

      const read = { startLsn: start.startLsn, verifyPageChecksums: true };
      const opened = await reader(t, setup);
      for (const tablespace of new Set(files.map((file) => file.tablespace))) {
        const asked = files.filter(
          (file) => file.tablespace === tablespace && file.target !== setup.damaged?.target,
        );
        const collector = new Collector();
        const result = await opened.read(asked, read, collector);
        assert.deepEqual(result, { hasBadPages: false, warnings: [] });
        for (const [index, file] of asked.entries()) {
          assert.ok(collector.content.get(index)?.equals(await setup.contentOf(file)), file.target);
        }
      }
      opened.destroy();

      const members = new Collector();
      const stop = await source.stop({ includeWal: true, waitForArchive: false }, members);
      const [[first, control] = ['', Buffer.alloc(0)], ...wal] = members.content;
      assert.equal(first, CONTROL_FILE_PATH);
      assert.equal(parseControlFile(control).systemIdentifier, source.server.systemIdentifier);
      assert.ok(wal.some(([file]) => /^pg_wal\/[0-9A-F]{24}$/.test(String(file))));
      assert.ok(stop.stopLsn > start.startLsn);
      assert.equal(stop.stopTimeline, start.startTimeline);
      const label = parseBackupLabel(stop.backupLabel);
      assert.equal(label.startLsn, start.startLsn);
      await source.close();
    });

    test('a file that is gone is never begun, those after it are', async (t) => {
      const setup = await started(t);
      const [first, second] = setup.files.filter((file) => file.tablespace === undefined);
      assert.ok(first !== undefined && second !== undefined);
      const target = 'base/1/4294967294';
      const gone = { ...first, source: first.source.replace(first.target, target), target };
      const collector = new Collector();
      await (await reader(t, setup)).read([first, gone, second], setup.read, collector);
      assert.deepEqual([...collector.content.keys()], [0, 2]);
    });

    test('a range of a file is that part of it, where ranges are read', async (t) => {
      const setup = await started(t);
      if (!setup.source.readsRanges) {
        t.skip('this source reads whole files only');
        return;
      }
      const [largest] = setup.files.toSorted((a, b) => b.size - a.size);
      assert.ok(largest !== undefined);
      const content = await setup.contentOf(largest);
      const ranges = [
        { offset: 0, length: 8192 },
        { offset: 3 * 8192, length: 1024 * 1024 + 8192 },
        { offset: largest.size - 8192, length: 8192 },
      ];
      const opened = await reader(t, setup);
      for (const range of ranges) {
        const collector = new Collector();
        await opened.read([{ ...largest, range }], setup.read, collector);
        const part = content.subarray(range.offset, range.offset + range.length);
        assert.ok(collector.content.get(0)?.equals(part), `${range.length} bytes at ${range.offset}`);
      }
    });

    test('a damaged page is named and copied as it is; without the check nothing is said', async (t) => {
      const setup = await started(t);
      const { damaged } = setup;
      if (damaged === undefined) {
        t.skip('the server is played');
        return;
      }
      const file = setup.files.find(({ target }) => target === damaged.target);
      assert.ok(file !== undefined);
      const opened = await reader(t, setup);
      for (const verifyPageChecksums of [true, false]) {
        const collector = new Collector();
        const result = await opened.read([file], { ...setup.read, verifyPageChecksums }, collector);
        assert.equal(result.hasBadPages, verifyPageChecksums);
        const text = result.warnings.join('\n');
        const named = `checksum verification failed in file "`;
        assert.equal(text.includes(named), verifyPageChecksums, text);
        assert.equal(
          text.includes(`${damaged.target}", block ${damaged.block}: `),
          verifyPageChecksums,
          text,
        );
        assert.ok(collector.content.get(0)?.equals(await setup.contentOf(file)));
      }
    });

    test('a wait stops the reading', async (t) => {
      const setup = await started(t);
      const largest = setup.files.toSorted((a, b) => b.size - a.size).slice(0, 1);
      const collector = new Collector();
      let release: () => void = () => {};
      collector.wait = new Promise((resolve) => (release = resolve));
      const opened = await reader(t, setup);
      let isOver = false;
      const reading = opened.read(largest, setup.read, collector).then(() => (isOver = true));
      while (collector.taken === 0) await nextTurn();
      for (let turn = 0; turn < 500; turn += 1) await nextTurn();
      assert.equal(isOver, false);
      assert.ok(collector.taken < (largest[0]?.size ?? 0));
      collector.wait = undefined;
      release();
      await reading;
    });

    test('what the receiver throws is what the read rejects with', async (t) => {
      const setup = await started(t);
      const failure = new ConvoyError('target_io', 'no space');
      const receiver: FileReceiver = {
        begin: () => {
          throw failure;
        },
        data: () => undefined,
        end: () => {},
      };
      await assert.rejects(
        (await reader(t, setup)).read(setup.files.slice(0, 1), setup.read, receiver),
        failure,
      );
    });

    test('a connection that the server ends is told of', async (t) => {
      const setup = await started(t);
      await setup.dropConnection();
      assert.equal((await setup.source.lost).code, 'connection_lost');
      await assert.rejects(setup.source.stop({ includeWal: false, waitForArchive: false }, new Collector()), {
        code: 'connection_lost',
      });
    });

    test('dropping a source rejects what it does', async (t) => {
      const { source } = await prepare(t);
      const starting = assert.rejects(source.start(OPTIONS), { code: 'connection_lost' });
      source.destroy();
      await starting;
    });
  });
}

/** Plain relative targets, none twice, parents before children. */
function assertPlainList(entries: readonly { readonly target: string }[]): void {
  const seen = new Set(entries.map(({ target }) => target));
  assert.equal(seen.size, entries.length);
  const before = new Set<string>(['.']);
  for (const { target } of entries) {
    assert.equal(path.posix.normalize(target), target);
    assert.ok(!path.isAbsolute(target) && !target.startsWith('..'));
    const parent = path.posix.dirname(target);
    assert.ok(before.has(parent) || /^pg_tblspc\/\d+$/.test(parent), target);
    before.add(target);
  }
}
