/* SCRAM-SHA-256 against node-postgres's client side and a verifier that PostgreSQL made. */
import assert from 'node:assert/strict';
import test from 'node:test';
import {
  mockVerifier,
  parseScramVerifier,
  ScramExchange,
  type ScramVerifier,
} from '../../src/server/scram.js';
import { sasl } from './raw-client.js';

/** `CREATE ROLE r PASSWORD 'päss wörd'` on PostgreSQL 15; from pg_authid. */
const PASSWORD = 'päss wörd';
const FROM_POSTGRES =
  'SCRAM-SHA-256$4096:E746gwI6umrcEFxtEJsV0Q==$4D6lwOA0IZwnY9AbhZnrXuCPWsYjJ6NxcGT2smGmXfM=:j2KsVGnyTWXduS/34QO+c6ngjq/bF3btNRAES0H6Ngk=';

function verifier(): ScramVerifier {
  const parsed = parseScramVerifier(FROM_POSTGRES);
  assert.ok(parsed);
  return parsed;
}

async function attempt(password: string, stored: ScramVerifier): Promise<string | undefined> {
  const session = sasl.startSession(['SCRAM-SHA-256']);
  const exchange = new ScramExchange(stored);
  await sasl.continueSession(session, password, exchange.first(session.response));
  const final = exchange.final(session.response);
  if (final !== undefined) sasl.finalizeSession(session, final);
  return final;
}

test("PostgreSQL's verifier takes its own password, and the client believes the server", async () => {
  assert.match((await attempt(PASSWORD, verifier())) ?? '', /^v=/);
});

test('a wrong password is refused', async () => {
  assert.equal(await attempt('another', verifier()), undefined);
});

test('a mock verifier takes no password, and has the same salt for the same role', async () => {
  const secret = Buffer.alloc(32, 7);
  const mock = mockVerifier(secret, 'somebody', 4096);
  assert.equal(await attempt(PASSWORD, mock), undefined);
  assert.deepEqual(mockVerifier(secret, 'somebody', 4096).salt, mock.salt);
  assert.notDeepEqual(mockVerifier(secret, 'another', 4096).salt, mock.salt);
  assert.equal(mock.salt.length, verifier().salt.length);
});

test('a stored password of another kind is no verifier', () => {
  for (const text of [
    '',
    'md5ad2d7df2a7a3a4f8e1c2f4a5bd5e24f6',
    'secret',
    'SCRAM-SHA-256$4096:c2FsdA==$short:short',
  ]) {
    assert.equal(parseScramVerifier(text), undefined, text);
  }
});

const GOOD_FIRST = 'n,,n=*,r=abcdef';

test('first messages: those of clients without channel binding are taken, others refused', () => {
  assert.match(new ScramExchange(verifier()).first(GOOD_FIRST), /^r=abcdef[^,]{20,},s=[^,]+,i=4096$/);
  assert.match(new ScramExchange(verifier()).first('y,,n=ignored,r=abcdef'), /^r=abcdef/);
  const bad: readonly { readonly first: string; readonly sqlState: string }[] = [
    { first: '', sqlState: '08P01' },
    { first: 'n,,n=*', sqlState: '08P01' },
    { first: 'x,,n=*,r=abcdef', sqlState: '08P01' },
    { first: 'nonsense,,n=*,r=abcdef', sqlState: '08P01' },
    { first: 'p=tls-server-end-point,,n=*,r=abcdef', sqlState: '08P01' },
    { first: 'n,a=other,n=*,r=abcdef', sqlState: '0A000' },
    { first: 'n,,m=ext,n=*,r=abcdef', sqlState: '08P01' },
    { first: 'n,,n=*,r=', sqlState: '08P01' },
    { first: 'n,,n=*,r=with space', sqlState: '08P01' },
  ];
  for (const { first, sqlState } of bad) {
    assert.throws(() => new ScramExchange(verifier()).first(first), { sqlState }, first);
  }
});

test('final messages that do not belong to the first are refused', () => {
  const proof = Buffer.alloc(32).toString('base64');
  const finals = (nonce: string): readonly string[] => [
    '',
    `c=biws,r=${nonce}`,
    `c=biws,r=${nonce}x,p=${proof}`,
    `c=eSws,r=${nonce},p=${proof}`,
    `c=biws,r=${nonce},p=${proof.slice(4)}`,
    `c=biws,r=abcdef,p=${proof}`,
  ];
  for (let index = 0; index < finals('').length; index += 1) {
    const exchange = new ScramExchange(verifier());
    const nonce = exchange.first(GOOD_FIRST).slice(2).split(',')[0] ?? '';
    assert.throws(
      () => exchange.final(finals(nonce)[index] ?? ''),
      { sqlState: '08P01' },
      finals(nonce)[index],
    );
    const intact = new ScramExchange(verifier());
    const ownNonce = intact.first(GOOD_FIRST).slice(2).split(',')[0] ?? '';
    assert.equal(intact.final(`c=biws,r=${ownNonce},p=${proof}`), undefined);
  }
});
