/* Messages are put together here by hand: type byte, length with itself, body. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FrameWalker, type FrameRules } from '../../src/wire/frames.js';
import { SeededRandom } from '../support/seeded-random.js';

interface Message {
  readonly type: string;
  readonly body: Buffer;
}

const COPY_DATA = 0x64;
const MAX_BODY_BYTES = 100_000;

const RULES: FrameRules = {
  streamed: (type) => type === COPY_DATA,
  maxBodyBytes: (type) => (type === 0x58 ? 0 : MAX_BODY_BYTES),
};

function build(type: string, body: Buffer, length = body.length + 4): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, body]);
}

/** Collects what a walker hands on; every buffer is copied, as it is only lent. */
class Collector {
  readonly messages: Message[] = [];
  readonly walker: FrameWalker;
  pieces = 0;
  #open: Buffer[] = [];

  constructor(rules: FrameRules = RULES) {
    this.walker = new FrameWalker(
      {
        message: (type, frame) => {
          assert.equal(frame[0], type);
          assert.equal(frame.readUInt32BE(1), frame.length - 1);
          this.messages.push({ type: String.fromCodePoint(type), body: Buffer.from(frame.subarray(5)) });
        },
        piece: (type, chunk, last) => {
          this.pieces += 1;
          this.#open.push(Buffer.from(chunk));
          if (!last) return;
          this.messages.push({ type: String.fromCodePoint(type), body: Buffer.concat(this.#open) });
          this.#open = [];
        },
      },
      rules,
    );
  }

  push(...chunks: readonly Buffer[]): this {
    for (const chunk of chunks) {
      // in a buffer that is overwritten afterwards, as the connection's receive buffer is
      const lent = Buffer.from(chunk);
      this.walker.push(lent);
      lent.fill(0xff);
    }
    return this;
  }
}

const MESSAGES: readonly Message[] = [
  { type: 'Z', body: Buffer.from('I') },
  { type: 'n', body: Buffer.alloc(0) },
  { type: 'd', body: Buffer.from('copy data') },
  { type: 'd', body: Buffer.alloc(0) },
  { type: 'D', body: Buffer.from([0, 1, 0xff, 0xff, 0xff, 0xff]) },
  { type: 'd', body: Buffer.from([0x64, 0, 0, 0, 4]) },
  { type: 'c', body: Buffer.alloc(0) },
  { type: 'T', body: Buffer.alloc(300, 7) },
];
const STREAM = Buffer.concat(MESSAGES.map(({ type, body }) => build(type, body)));

describe('messages come out whole', () => {
  test('out of one chunk, none of them copied', () => {
    const whole = Buffer.from(STREAM);
    const seen: ArrayBufferLike[] = [];
    const walker = new FrameWalker(
      {
        message: (_type, frame) => seen.push(frame.buffer),
        piece: (_type, chunk) => seen.push(chunk.buffer),
      },
      RULES,
    );
    walker.push(whole);
    assert.equal(seen.length, MESSAGES.length);
    assert.ok(seen.every((memory) => memory === whole.buffer));
    assert.deepEqual(new Collector().push(STREAM).messages, MESSAGES);
  });

  test('wherever the stream is split in three', () => {
    for (let first = 0; first <= STREAM.length; first += 1) {
      for (const second of [first, first + 1, first + 4, first + 5, first + 50]) {
        const collector = new Collector();
        collector.push(STREAM.subarray(0, first), STREAM.subarray(first, second), STREAM.subarray(second));
        assert.deepEqual(collector.messages, MESSAGES, `split at ${first} and ${second}`);
        assert.ok(collector.walker.atBoundary);
      }
    }
  });

  test('byte by byte, with empty chunks between', () => {
    const collector = new Collector();
    let ended = 0;
    const ends = new Set(MESSAGES.map(({ body }) => (ended += 5 + body.length)));
    for (let at = 0; at < STREAM.length; at += 1) {
      collector.push(STREAM.subarray(at, at + 1), Buffer.alloc(0));
      assert.equal(collector.walker.atBoundary, ends.has(at + 1), `after byte ${at}`);
    }
    assert.deepEqual(collector.messages, MESSAGES);
  });

  test('out of random streams, split at random', () => {
    const random = new SeededRandom(20);
    for (let round = 0; round < 150; round += 1) {
      const messages = Array.from({ length: random.below(20) }, () => ({
        type: random.pick(['d', 'd', 'D', 'C', 'E', 'N', 'Z']),
        body: random.bytes(random.below(random.chance(8) ? 5000 : 40)),
      }));
      const stream = Buffer.concat(messages.map(({ type, body }) => build(type, body)));
      const collector = new Collector().push(...random.split(stream, random.pick([1, 7, 600, 100_000])));
      assert.deepEqual(collector.messages, messages);
      assert.ok(collector.walker.atBoundary);
    }
  });

  test('a streamed body is handed on as it comes, never collected', () => {
    const collector = new Collector({ streamed: () => true, maxBodyBytes: () => 2 ** 30 });
    collector.push(build('d', Buffer.alloc(0), 2 ** 30 + 4));
    const chunk = Buffer.alloc(64 * 1024);
    for (let round = 1; round <= 10; round += 1) {
      collector.push(chunk);
      assert.equal(collector.pieces, round);
    }
    assert.deepEqual(collector.messages, []);
    assert.ok(!collector.walker.atBoundary);
  });
});

describe('what no peer sends is refused', () => {
  const refused: readonly (readonly [name: string, bytes: Buffer, message: RegExp])[] = [
    ['a length below its own size', build('D', Buffer.alloc(0), 3), /type "D", length 3$/],
    ['length 0', build('D', Buffer.alloc(0), 0), /type "D", length 0$/],
    ['a negative length', build('D', Buffer.alloc(0), 0xffff_ffff), /type "D", length 4294967295$/],
    ['the least length past the bound', build('D', Buffer.alloc(0), MAX_BODY_BYTES + 5), /length 100005$/],
    [
      'the same of a streamed type',
      build('d', Buffer.alloc(0), MAX_BODY_BYTES + 5),
      /type "d", length 100005$/,
    ],
    ['a body where none may be', build('X', Buffer.from('?')), /type "X", length 5$/],
    ['a text instead of a message', Buffer.from('HTTP/1.1 400 Bad Request'), /type "H", length 1414811695$/],
    [
      'a type that does not print',
      build('\u0016', Buffer.alloc(0), 2 ** 31),
      /type 0x16, length 2147483648$/,
    ],
  ];
  for (const [name, bytes, message] of refused) {
    test(name, () => {
      const expected = { name: 'ConvoyError', code: 'untrusted_peer', sqlState: '08P01', message };
      assert.throws(() => new Collector().push(bytes), expected);
      const pieces = [...bytes].map((byte) => Buffer.from([byte]));
      assert.throws(() => new Collector().push(...pieces), expected);
    });
  }

  test('the greatest length within the bound, and an empty body of a type with none, are taken', () => {
    const messages = [
      { type: 'D', body: Buffer.alloc(MAX_BODY_BYTES, 1) },
      { type: 'X', body: Buffer.alloc(0) },
    ];
    const stream = Buffer.concat(messages.map(({ type, body }) => build(type, body)));
    assert.deepEqual(new Collector().push(stream).messages, messages);
  });

  test('garbage never gives more than it holds', () => {
    const random = new SeededRandom(21);
    for (let round = 0; round < 3000; round += 1) {
      const garbage = random.bytes(random.below(300));
      const collector = new Collector();
      try {
        collector.push(...random.split(garbage, 64));
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'untrusted_peer');
      }
      const bytes = collector.messages.reduce((sum, { body }) => sum + 5 + body.length, 0);
      assert.ok(bytes <= garbage.length);
    }
  });
});
