/* The messages of START_REPLICATION: read however they are cut, and nothing that is none is taken for one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConvoyError } from '../../src/errors.js';
import type { Lsn } from '../../src/lsn.js';
import { encodeStatusUpdate, WalMessageReader } from '../../src/wal/wal-messages.js';
import { keepalive, walData } from '../support/wal-stream.js';

const START = 0x1_2345_6000n;

/** What a reader makes of one message that comes in these pieces. */
function read(...pieces: readonly Buffer[]): string[] {
  const seen: string[] = [];
  let wal = Buffer.alloc(0);
  const reader = new WalMessageReader({
    wal: (position, bytes) => {
      assert.equal(position, START + BigInt(wal.length));
      wal = Buffer.concat([wal, bytes]);
      return undefined;
    },
    keepalive: (wantsReply) => seen.push(`keepalive ${wantsReply}`),
  });
  for (const [index, piece] of pieces.entries()) void reader.push(piece, index === pieces.length - 1);
  return wal.length === 0 ? seen : [...seen, wal.toString()];
}

test('a message is read wherever it is cut', () => {
  for (const [message, expected] of [
    [walData(START, Buffer.from('some wal')), ['some wal']],
    [walData(START, Buffer.alloc(0)), []],
    [keepalive(START, true), ['keepalive true']],
    [keepalive(START, false), ['keepalive false']],
  ] as const) {
    assert.deepEqual(read(message), expected);
    for (let at = 1; at < message.length; at += 1) {
      assert.deepEqual(read(message.subarray(0, at), message.subarray(at)), expected, `cut at ${at}`);
    }
    assert.deepEqual(read(...[...message].map((byte) => Buffer.from([byte]))), expected, 'byte by byte');
  }
});

test('one reader reads message after message', () => {
  const seen: (bigint | boolean)[] = [];
  const reader = new WalMessageReader({
    wal(position) {
      seen.push(position);
      return undefined;
    },
    keepalive: (wantsReply) => void seen.push(wantsReply),
  });
  for (const message of [walData(1n, Buffer.alloc(5)), keepalive(6n, true), walData(6n, Buffer.alloc(1))]) {
    void reader.push(message, true);
  }
  assert.deepEqual(seen, [1n, true, 6n]);
});

for (const [name, message, said] of [
  ['an empty message', Buffer.alloc(0), /^streaming header too small: 0$/],
  ['an unknown type', Buffer.from('x and more'), /^unrecognized streaming header: "x"$/],
  [
    'half a header of WAL',
    walData(START, Buffer.alloc(0)).subarray(0, 24),
    /^streaming header too small: 24$/,
  ],
  ['half a keepalive', keepalive(START, true).subarray(0, 17), /^streaming header too small: 17$/],
  ['a keepalive that goes on', Buffer.concat([keepalive(START, true), Buffer.alloc(8)]), /too large: 26$/],
  ['more WAL than a server sends at once', walData(START, Buffer.alloc(1024 * 1024 + 1)), /too large$/],
] as const) {
  test(`${name} is refused, wherever it is cut`, () => {
    const isRefused = (error: unknown): boolean =>
      error instanceof ConvoyError && error.code === 'untrusted_peer' && said.test(error.message);
    assert.throws(() => read(message), isRefused);
    if (message.length > 1) assert.throws(() => read(message.subarray(0, 1), message.subarray(1)), isRefused);
  });
}

test('a status update is what a walsender reads', () => {
  // 2026-01-02 03:04:05.678 UTC is 820,638,245,678 ms after 2000-01-01
  const update = encodeStatusUpdate(
    { written: 0x1_0000_0002n as Lsn, flushed: 0x1_0000_0000n as Lsn, wantsReply: true },
    Date.UTC(2026, 0, 2, 3, 4, 5, 678),
  );
  const expected = Buffer.alloc(34);
  expected.write('r', 'latin1');
  expected.writeBigUInt64BE(0x1_0000_0002n, 1);
  expected.writeBigUInt64BE(0x1_0000_0000n, 9);
  expected.writeBigInt64BE(820_638_245_678_000n, 25);
  expected.writeUInt8(1, 33);
  assert.deepEqual(update, expected);
});
