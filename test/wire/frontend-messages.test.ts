/* The encoder is pg-protocol's serializer; what it never sends is put together by hand. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { serialize } from 'pg-protocol';
import { ConvoyError } from '../../src/errors.js';
import { MAX_STARTUP_PACKET_BYTES } from '../../src/limits.js';
import {
  decodeInitialPacket,
  decodeQuery,
  decodeSaslInitialResponse,
  decodeSaslResponse,
  initialPacketLength,
} from '../../src/wire/frontend-messages.js';
import { SeededRandom } from '../support/seeded-random.js';

/** An initial packet: length with itself, code, body. */
function packet(code: number, body: Buffer | string = ''): Buffer {
  const content = Buffer.from(body);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(content.length + 8, 0);
  head.writeUInt32BE(code, 4);
  return Buffer.concat([head, content]);
}

const PROTOCOL_3 = 3 << 16;
const CANCEL = 80_877_102;

describe('the initial packet', () => {
  test('a startup message with its parameters', () => {
    const bytes = serialize.startup({
      user: 'réplica',
      database: 'postgres',
      replication: 'true',
      options: '-c a=b\\ c',
    });
    assert.equal(initialPacketLength(bytes), bytes.length);
    const startup = decodeInitialPacket(bytes);
    assert.equal(startup.kind, 'startup');
    assert.equal(startup.minor, 0);
    assert.deepEqual(Object.fromEntries(startup.parameters), {
      user: 'réplica',
      database: 'postgres',
      replication: 'true',
      options: '-c a=b\\ c',
      client_encoding: 'UTF8',
    });
  });

  test('a startup message of a newer minor version, with protocol options', () => {
    const startup = decodeInitialPacket(packet(PROTOCOL_3 + 2, 'user\0me\0_pq_.x\0\0\0'));
    assert.deepEqual(startup, {
      kind: 'startup',
      minor: 2,
      parameters: new Map([
        ['user', 'me'],
        ['_pq_.x', ''],
      ]),
    });
  });

  test('the last value of a parameter that comes twice counts', () => {
    const startup = decodeInitialPacket(packet(PROTOCOL_3, 'user\0a\0user\0b\0\0'));
    assert.equal(startup.kind === 'startup' && startup.parameters.get('user'), 'b');
  });

  test('a request for TLS, and one for GSSAPI', () => {
    assert.deepEqual(decodeInitialPacket(serialize.requestSsl()), { kind: 'ssl_request' });
    assert.deepEqual(decodeInitialPacket(packet(80_877_104)), { kind: 'gssenc_request' });
  });

  test('a cancel request, with the short key and a long one of protocol 3.2', () => {
    const short = decodeInitialPacket(serialize.cancel(4711, -2));
    const secretKey = Buffer.from('fffffffe', 'hex');
    assert.deepEqual(short, { kind: 'cancel_request', processId: 4711, secretKey });
    const long = Buffer.alloc(32, 5);
    assert.deepEqual(
      decodeInitialPacket(packet(CANCEL, Buffer.concat([Buffer.from([0, 0, 0x12, 0x67]), long]))),
      {
        kind: 'cancel_request',
        processId: 4711,
        secretKey: long,
      },
    );
  });

  test('its length is known once four bytes are there', () => {
    const bytes = serialize.requestSsl();
    for (const at of [0, 1, 2, 3]) assert.equal(initialPacketLength(bytes.subarray(0, at)), undefined);
    assert.equal(initialPacketLength(bytes.subarray(0, 4)), 8);
  });

  const badLengths: readonly number[] = [0, 4, 7, MAX_STARTUP_PACKET_BYTES + 1, 0x7fff_ffff, 0xffff_ffff];
  for (const length of badLengths) {
    test(`length ${length} is refused`, () => {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(length);
      assert.throws(() => initialPacketLength(head), { code: 'untrusted_peer', sqlState: '08P01' });
    });
  }

  test('"GET / HTTP/1.1" is refused by its length', () => {
    assert.throws(() => initialPacketLength(Buffer.from('GET / HTTP/1.1\r\n')), { sqlState: '08P01' });
  });

  const refused: readonly (readonly [name: string, bytes: Buffer, sqlState: string])[] = [
    ['a parameter without its end', packet(PROTOCOL_3, 'user\0me'), '08P01'],
    ['a name without a value', packet(PROTOCOL_3, 'user\0'), '08P01'],
    ['parameters without the terminator', packet(PROTOCOL_3, 'user\0me\0'), '08P01'],
    ['no parameters at all', packet(PROTOCOL_3), '08P01'],
    ['bytes after the terminator', packet(PROTOCOL_3, 'user\0me\0\0x'), '08P01'],
    ['a cancel request without a key', packet(CANCEL, '1234'), '08P01'],
    ['protocol 2', packet(2 << 16, 'x'), '0A000'],
    ['protocol 4', packet(4 << 16, 'user\0me\0\0'), '0A000'],
    ['protocol 0', packet(0, '\0'), '0A000'],
  ];
  for (const [name, bytes, sqlState] of refused) {
    test(`${name} is refused with ${sqlState}`, () => {
      assert.throws(() => decodeInitialPacket(bytes), { code: 'untrusted_peer', sqlState });
    });
  }

  test('garbage is refused or read, and throws nothing else', () => {
    const random = new SeededRandom(50);
    for (let round = 0; round < 5000; round += 1) {
      const body = Buffer.from(random.text(['user', '\0', '\0', 'x', 'ü', '_pq_.'], 12));
      onlyConvoyErrors(() => decodeInitialPacket(packet(random.pick([PROTOCOL_3, CANCEL]), body)));
      onlyConvoyErrors(() =>
        decodeInitialPacket(Buffer.concat([packet(random.below(2 ** 32)), random.bytes(20)])),
      );
    }
  });
});

function onlyConvoyErrors(step: () => unknown): void {
  try {
    step();
  } catch (error) {
    assert.ok(error instanceof ConvoyError, String(error));
  }
}

/** A message: type, length with itself, body. */
function frame(type: string, body: Buffer | string): Buffer {
  const content = Buffer.from(body);
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeUInt32BE(content.length + 4, 1);
  return Buffer.concat([head, content]);
}

describe('a query', () => {
  for (const text of ['IDENTIFY_SYSTEM', '', "START_BACKUP LABEL 'it''s ü\n'", 'x'.repeat(100_000)]) {
    test(`of ${text.length} characters`, () => assert.equal(decodeQuery(serialize.query(text)), text));
  }

  const refused = [frame('Q', 'no end'), frame('Q', 'one\0two\0'), frame('Q', 'one\0two'), frame('Q', '')];
  for (const bytes of refused) {
    test(`${JSON.stringify(bytes.toString('latin1', 5))} is refused`, () => {
      assert.throws(() => decodeQuery(bytes), { code: 'untrusted_peer', sqlState: '08P01' });
    });
  }
});

describe('SASL', () => {
  test('an initial response', () => {
    assert.deepEqual(
      decodeSaslInitialResponse(serialize.sendSASLInitialResponseMessage('SCRAM-SHA-256', 'n,,n=*,r=x')),
      {
        mechanism: 'SCRAM-SHA-256',
        data: 'n,,n=*,r=x',
      },
    );
  });

  test('an initial response without data', () => {
    const bytes = frame('p', Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), Buffer.alloc(4, 0xff)]));
    assert.deepEqual(decodeSaslInitialResponse(bytes), { mechanism: 'SCRAM-SHA-256', data: '' });
  });

  test('a response', () => {
    const bytes = serialize.sendSCRAMClientFinalMessage('c=biws,r=x,p=ZGVm');
    assert.equal(decodeSaslResponse(bytes), 'c=biws,r=x,p=ZGVm');
  });

  const mechanism = Buffer.from('SCRAM-SHA-256\0');
  const refused: readonly (readonly [name: string, body: Buffer])[] = [
    ['nothing', Buffer.alloc(0)],
    ['a mechanism without its end', Buffer.from('SCRAM-SHA-256')],
    ['no length of the data', mechanism],
    ['half a length', Buffer.concat([mechanism, Buffer.alloc(3)])],
    ['a length past the data', Buffer.concat([mechanism, Buffer.from([0, 0, 0, 9]), Buffer.from('n,,')])],
    ['a length short of the data', Buffer.concat([mechanism, Buffer.from([0, 0, 0, 1]), Buffer.from('n,,')])],
    [
      'a negative length',
      Buffer.concat([mechanism, Buffer.from([0xff, 0xff, 0xff, 0xfe]), Buffer.from('n,,')]),
    ],
  ];
  for (const [name, body] of refused) {
    test(`${name} is refused`, () => {
      assert.throws(() => decodeSaslInitialResponse(frame('p', body)), {
        code: 'untrusted_peer',
        sqlState: '08P01',
      });
    });
  }

  test('garbage throws nothing but what it should', () => {
    const random = new SeededRandom(51);
    for (let round = 0; round < 3000; round += 1) {
      const bytes = frame(
        'p',
        Buffer.concat([Buffer.from(random.text(['S', '\0'], 5)), random.bytes(random.below(12))]),
      );
      onlyConvoyErrors(() => decodeSaslInitialResponse(bytes));
      onlyConvoyErrors(() => decodeQuery(bytes));
      onlyConvoyErrors(() => decodeSaslResponse(bytes));
    }
  });
});
