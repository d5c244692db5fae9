import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { HeldPieces } from '../../src/target/held-pieces.js';
import { temporaryDirectory } from '../support/cleanup.js';
import { smallDisk } from '../support/small-disk.js';

const MiB = 1024 * 1024;

/** Pieces that are told apart: three times what memory holds. */
const PIECES = Array.from({ length: 24 }, (_, index) => Buffer.alloc(MiB, index));

test('what memory does not hold comes back in order, and leaves no file behind', async (t) => {
  const directory = await temporaryDirectory(t);
  const held = new HeldPieces(path.join(directory, 'base.tar.gz'));
  for (const piece of PIECES) held.add([piece]);
  assert.equal(held.bytes, 24 * MiB);
  assert.deepEqual(readdirSync(directory), []);
  const taken: Buffer[] = [];
  // each is overwritten by the next
  for (const piece of held.take()) taken.push(Buffer.from(piece));
  assert.ok(Buffer.concat(taken).equals(Buffer.concat(PIECES)));
  held.close();
});

test('a full disk is told of the archive, not of the file without a name', async (t) => {
  const disk = await smallDisk(t, 4 * MiB);
  if (disk === undefined) return;
  const archive = path.join(disk, 'base.tar.gz');
  const held = new HeldPieces(archive);
  assert.throws(
    () => {
      for (const piece of PIECES) held.add([piece]);
    },
    { code: 'target_io', message: `could not write file "${archive}": No space left on device` },
  );
  held.close();
});
