/* What every kind of target keeps to (src/target/target.ts): one suite, run for each of them. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Target, TargetFile } from '../../src/target/target.js';
import { SeededRandom } from '../support/seeded-random.js';

export interface StoredFile {
  readonly content: Buffer;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
}

export interface TargetSetup {
  readonly target: Target;
  /** A file as it is stored, read by other means; undefined where there is none. */
  readonly read: (path: string) => Promise<StoredFile | undefined>;
}

/** @param prepare makes a target that has the directories base/1 and pg_tblspc/16384/PG_15_202209061/5 */
export function targetContract(name: string, prepare: (t: TestContext) => Promise<TargetSetup>): void {
  /** As the plan numbers files. */
  const slots = new Map<string, number>();

  function file(path: string, size: number, more: Partial<TargetFile> = {}): TargetFile {
    const slot = slots.get(path) ?? slots.size;
    slots.set(path, slot);
    return { path, size, mode: 0o600, mtime: 1_700_000_000, slot, ...more };
  }

  /** Writes a file as copy/paced-file.ts does: exactly the bytes that the target takes. */
  async function write(target: Target, described: TargetFile, chunks: readonly Buffer[]): Promise<void> {
    const writer = target.createFile(described);
    const whole = Buffer.concat(chunks).subarray(0, writer.size);
    const missing = Buffer.alloc(writer.size - whole.length);
    for (const chunk of [...(whole.length < described.size ? [whole] : chunks), missing]) {
      const lent = Buffer.from(chunk);
      await writer.write(lent);
      // the buffer belongs to the source, which reads over it
      lent.fill(0xff);
    }
    writer.finish();
  }

  /** A task of one file. */
  async function store(target: Target, described: TargetFile, chunks: readonly Buffer[]): Promise<void> {
    await write(target, described, chunks);
    await target.commit();
  }

  describe(name, () => {
    test('a file has its bytes, its permissions and its time', async (t) => {
      const { target, read } = await prepare(t);
      const content = new SeededRandom(120).bytes(20_000);
      for (const [index, mode] of [0o600, 0o640, 0o644, 0o700, 0o400].entries()) {
        const path = `base/1/${index}`;
        await store(target, file(path, content.length, { mode, mtime: index * 1_000_000_000 }), [content]);
        assert.deepEqual(await read(path), { content, mode, mtime: index * 1_000_000_000 });
      }
    });

    test('a file written in pieces of any size is whole', async (t) => {
      const { target, read } = await prepare(t);
      const random = new SeededRandom(121);
      const content = random.bytes(3_000_000);
      await store(target, file('base/1/112', content.length), random.split(content, 3000));
      assert.ok((await read('base/1/112'))?.content.equals(content));
    });

    test('an empty file is there', async (t) => {
      const { target, read } = await prepare(t);
      await store(target, file('base/1/113', 0), []);
      assert.equal((await read('base/1/113'))?.content.length, 0);
    });

    test('the files of a task follow each other', async (t) => {
      const { target, read } = await prepare(t);
      const random = new SeededRandom(122);
      const files = [511, 512, 513, 0, 300_000, 1].map((size, index) => ({
        path: `base/1/${index}`,
        content: random.bytes(size),
      }));
      for (const { path, content } of files) await write(target, file(path, content.length), [content]);
      await target.commit();
      for (const { path, content } of files) {
        assert.ok((await read(path))?.content.equals(content), path);
      }
    });

    test('a task that was given up is written anew, shorter too, once or twice', async (t) => {
      const { target, read } = await prepare(t);
      for (const mode of [0o600, 0o400]) {
        const path = `base/1/${mode}`;
        const [before, after] = [file(`${path}-before`, 3), file(`${path}-after`, 3)];
        await write(target, before, [Buffer.from('one')]);
        const abandoned = target.createFile(file(path, 8, { mode }));
        await abandoned.write(Buffer.from('longer'));
        abandoned.abandon();
        abandoned.abandon();
        assert.equal(await target.rollback(), true);
        await write(target, before, [Buffer.from('one')]);
        await write(target, file(path, 6, { mode }), [Buffer.from('second')]);
        // another file of the task was cut off
        assert.equal(await target.rollback(), true);
        await write(target, before, [Buffer.from('one')]);
        await write(target, file(path, 3, { mode }), [Buffer.from('3rd')]);
        await store(target, after, [Buffer.from('two')]);
        // a target that has fixed the size keeps it
        assert.match(String((await read(path))?.content), /^3rd\0*$/);
        assert.equal((await read(path))?.mode, mode);
        assert.equal(String((await read(before.path))?.content), 'one');
        assert.equal(String((await read(after.path))?.content), 'two');
      }
    });

    test('a file of a tablespace lies where the tablespace does', async (t) => {
      const { target, read } = await prepare(t);
      const path = 'pg_tblspc/16384/PG_15_202209061/5/16400';
      await store(target, file(path, 5), [Buffer.from('space')]);
      assert.equal(String((await read(path))?.content), 'space');
    });

    test('odd names are kept', async (t) => {
      const { target, read } = await prepare(t);
      for (const odd of [
        'with blanks',
        "it's",
        'new\nline',
        'back\\slash',
        'größe',
        '-rf',
        '..hidden',
        '$HOME',
        '*',
        'x'.repeat(99 - 'base/1/'.length),
        'x'.repeat(100 - 'base/1/'.length),
        'ü'.repeat(120),
        'x'.repeat(255),
      ]) {
        await store(target, file(`base/1/${odd}`, 1), [Buffer.from('x')]);
        assert.equal(String((await read(`base/1/${odd}`))?.content), 'x', odd);
      }
    });
  });
}
