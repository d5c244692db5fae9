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
  function file(path: string, size: number, more: Partial<TargetFile> = {}): TargetFile {
    return { path, size, mode: 0o600, mtime: 1_700_000_000, ...more };
  }

  function store(target: Target, described: TargetFile, chunks: readonly Buffer[]): void {
    const writer = target.createFile(described);
    for (const chunk of chunks) {
      const lent = Buffer.from(chunk);
      writer.write(lent);
      // the buffer belongs to the source, which reads over it
      lent.fill(0xff);
    }
    writer.finish();
  }

  describe(name, () => {
    test('a file has its bytes, its permissions and its time', async (t) => {
      const { target, read } = await prepare(t);
      const content = new SeededRandom(120).bytes(20_000);
      for (const [index, mode] of [0o600, 0o640, 0o644, 0o700, 0o400].entries()) {
        const path = `base/1/${index}`;
        store(target, file(path, content.length, { mode, mtime: index * 1_000_000_000 }), [content]);
        assert.deepEqual(await read(path), { content, mode, mtime: index * 1_000_000_000 });
      }
    });

    test('a file written in pieces of any size is whole', async (t) => {
      const { target, read } = await prepare(t);
      const random = new SeededRandom(121);
      const content = random.bytes(100_000);
      store(target, file('base/1/112', content.length), random.split(content, 3000));
      assert.ok((await read('base/1/112'))?.content.equals(content));
    });

    test('an empty file is there', async (t) => {
      const { target, read } = await prepare(t);
      store(target, file('base/1/113', 0), []);
      assert.equal((await read('base/1/113'))?.content.length, 0);
    });

    test('files are written side by side', async (t) => {
      const { target, read } = await prepare(t);
      const [one, two] = [target.createFile(file('base/1/1', 4)), target.createFile(file('base/1/2', 4))];
      one.write(Buffer.from('11'));
      two.write(Buffer.from('2222'));
      two.finish();
      one.write(Buffer.from('11'));
      one.finish();
      assert.equal(String((await read('base/1/1'))?.content), '1111');
      assert.equal(String((await read('base/1/2'))?.content), '2222');
    });

    test('a file that was given up is written anew, shorter too, once or twice', async (t) => {
      const { target, read } = await prepare(t);
      for (const mode of [0o600, 0o400]) {
        const path = `base/1/${mode}`;
        const abandoned = target.createFile(file(path, 8, { mode }));
        abandoned.write(Buffer.from('longer'));
        abandoned.abandon();
        abandoned.abandon();
        store(target, file(path, 6, { mode }), [Buffer.from('second')]);
        // its task is repeated: another file of it was cut off
        store(target, file(path, 3, { mode }), [Buffer.from('3rd')]);
        assert.equal(String((await read(path))?.content), '3rd');
        assert.equal((await read(path))?.mode, mode);
      }
    });

    test('a file of a tablespace lies where the tablespace does', async (t) => {
      const { target, read } = await prepare(t);
      const path = 'pg_tblspc/16384/PG_15_202209061/5/16400';
      store(target, file(path, 5), [Buffer.from('space')]);
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
      ]) {
        store(target, file(`base/1/${odd}`, 1), [Buffer.from('x')]);
        assert.equal(String((await read(`base/1/${odd}`))?.content), 'x', odd);
      }
    });
  });
}
