/* The decoder is pg-protocol's parser; bytes that PostgreSQL sent are those of PROTOCOL, "Message flow". */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Parser } from 'pg-protocol/dist/parser.js';
import {
  FILE_COLUMNS,
  LABEL_COLUMNS,
  POSITION_COLUMNS,
  TABLESPACE_COLUMNS,
} from '../../src/replication/result-sets.js';
import * as messages from '../../src/wire/backend-messages.js';
import { SeededRandom } from '../support/seeded-random.js';

/** What pg-protocol makes of the bytes, as plain data. */
function parse(...chunks: readonly Buffer[]): object[] {
  const parsed: object[] = [];
  const parser = new Parser();
  for (const chunk of chunks) {
    parser.parse(chunk, (message) => {
      const fields = Object.entries(message).filter(([, value]) => value !== undefined);
      const text = message instanceof Error ? { message: message.message } : {};
      parsed.push({ ...Object.fromEntries(fields), ...text });
    });
  }
  return parsed;
}

const ERROR: messages.MessageFields = {
  severity: 'FATAL',
  sqlState: '28P01',
  message: 'password authentication failed for user "é"',
  detail: 'a detail',
  hint: 'a hint',
};
const PARSED_ERROR = {
  severity: 'FATAL',
  code: '28P01',
  message: ERROR.message,
  detail: 'a detail',
  hint: 'a hint',
};
const FIELD = { tableID: 0, columnID: 0, dataTypeModifier: 0, format: 'text' };

const DECODED: readonly (readonly [name: string, bytes: Buffer, expected: object])[] = [
  ['authenticationOk', messages.authenticationOk(), { name: 'authenticationOk' }],
  [
    'authenticationSasl',
    messages.authenticationSasl(['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256']),
    { name: 'authenticationSASL', mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'] },
  ],
  [
    'authenticationSaslContinue',
    messages.authenticationSaslContinue('r=abc,s=ZGVm,i=4096'),
    { name: 'authenticationSASLContinue', data: 'r=abc,s=ZGVm,i=4096' },
  ],
  [
    'authenticationSaslFinal',
    messages.authenticationSaslFinal('v=signature'),
    { name: 'authenticationSASLFinal', data: 'v=signature' },
  ],
  [
    'parameterStatus',
    messages.parameterStatus('server_version', '15.18 (Debian)'),
    { name: 'parameterStatus', parameterName: 'server_version', parameterValue: '15.18 (Debian)' },
  ],
  [
    'backendKeyData',
    messages.backendKeyData(4_194_304, -2_147_483_648),
    { name: 'backendKeyData', processID: 4_194_304, secretKey: -2_147_483_648 },
  ],
  ['readyForQuery', messages.readyForQuery(), { name: 'readyForQuery', status: 'I' }],
  [
    'rowDescription',
    messages.rowDescription([{ name: 'größe', typeOid: 2_147_483_647, typeLength: -1 }]),
    {
      name: 'rowDescription',
      fieldCount: 1,
      fields: [{ ...FIELD, name: 'größe', dataTypeID: 2_147_483_647, dataTypeSize: -1 }],
    },
  ],
  [
    'rowDescription without columns',
    messages.rowDescription([]),
    { name: 'rowDescription', fieldCount: 0, fields: [] },
  ],
  [
    'dataRow',
    messages.dataRow(['x', '', null, 'ü\n']),
    { name: 'dataRow', fieldCount: 4, fields: ['x', '', null, 'ü\n'] },
  ],
  ['commandComplete', messages.commandComplete('SELECT'), { name: 'commandComplete', text: 'SELECT' }],
  [
    'copyOutResponse',
    messages.copyOutResponse(),
    { name: 'copyOutResponse', binary: false, columnTypes: [] },
  ],
  ['copyDone', messages.copyDone(), { name: 'copyDone' }],
  ['errorResponse', messages.errorResponse(ERROR), { name: 'error', ...PARSED_ERROR }],
  [
    'noticeResponse',
    messages.noticeResponse({ ...ERROR, severity: 'WARNING' }),
    { name: 'notice', ...PARSED_ERROR, severity: 'WARNING' },
  ],
  [
    'an error without detail and hint',
    messages.errorResponse({ severity: 'ERROR', sqlState: 'XX000', message: '' }),
    { name: 'error', severity: 'ERROR', code: 'XX000', message: '' },
  ],
];

describe("pg-protocol's parser reads what was meant", () => {
  for (const [name, bytes, expected] of DECODED) {
    test(name, () => {
      const length = bytes.length - 1;
      const plain = JSON.parse(JSON.stringify(parse(bytes))) as object[];
      assert.deepEqual(plain, [{ length, ...expected }]);
    });
  }

  test('all of them in one stream, split at every byte', () => {
    const stream = Buffer.concat(DECODED.map(([, bytes]) => bytes));
    const whole = parse(stream);
    assert.equal(whole.length, DECODED.length);
    for (let at = 1; at < stream.length; at += 1) {
      assert.deepEqual(parse(Buffer.from(stream.subarray(0, at)), Buffer.from(stream.subarray(at))), whole);
    }
  });

  test('random rows', () => {
    const random = new SeededRandom(40);
    const characters = ['a', "'", '"', '\\', '\n', '\u0001', 'ß', '漢', '😀'];
    for (let round = 0; round < 1000; round += 1) {
      const values = Array.from({ length: random.below(6) }, () =>
        random.chance(4) ? null : random.text(characters, 40),
      );
      assert.deepEqual(parse(messages.dataRow(values)), [
        {
          name: 'dataRow',
          length: messages.dataRow(values).length - 1,
          fieldCount: values.length,
          fields: values,
        },
      ]);
    }
  });

  test('the head of CopyData, with its payload written after it', () => {
    const payload = Buffer.from('tar');
    assert.deepEqual(parse(Buffer.concat([messages.copyDataHeader(3), payload])), [
      { name: 'copyData', length: 7, chunk: payload },
    ]);
  });

  test('a NUL in a text cannot end it early', () => {
    const bytes = messages.errorResponse({ severity: 'ERROR', sqlState: 'XX000', message: 'a\0MX\0b' });
    assert.equal((parse(bytes)[0] as { message: string }).message, 'aMXb');
  });
});

describe('bytes are those that PostgreSQL sends', () => {
  const known: readonly (readonly [name: string, bytes: Buffer, hex: string])[] = [
    [
      'recptr and tli',
      messages.rowDescription(POSITION_COLUMNS),
      '540000003500027265637074720000000000000000000019ffff000000000000746c690000000000000000000014ffff000000000000',
    ],
    [
      'spcoid, spclocation and size',
      messages.rowDescription(TABLESPACE_COLUMNS),
      '540000005400037370636f6964000000000000000000001a00040000000000007370636c6f636174696f6e000000000000' +
        '0000000019ffff00000000000073697a6500000000000000000000140008000000000000',
    ],
    [
      'label and tablespacemap',
      messages.rowDescription(LABEL_COLUMNS),
      '540000003e00026c6162656c0000000000000000000019ffff0000000000007461626c6573706163656d61700000000000000000000019ffff000000000000',
    ],
    [
      'path, type, size and mtime',
      messages.rowDescription(FILE_COLUMNS),
      '54000000630004706174680000000000000000000019ffff000000000000747970650000000000000000000012000100000000000073' +
        '697a65000000000000000000001400080000000000006d74696d6500000000000000000000140008000000000000',
    ],
    ['CopyOutResponse', messages.copyOutResponse(), '4800000007000000'],
    ['CopyDone', messages.copyDone(), '6300000004'],
    ['AuthenticationOk', messages.authenticationOk(), '520000000800000000'],
    ['ReadyForQuery', messages.readyForQuery(), '5a0000000549'],
    ['CommandComplete', messages.commandComplete('SELECT'), '430000000b53454c45435400'],
    // newest minor version 0, one option "_pq_.x" is not known
    [
      'NegotiateProtocolVersion',
      messages.negotiateProtocolVersion(0, ['_pq_.x']),
      '760000001300000000000000015f70715f2e7800',
    ],
  ];
  for (const [name, bytes, hex] of known) {
    test(name, () => assert.equal(bytes.toString('hex'), hex));
  }
});
