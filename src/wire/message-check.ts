/*
 * Looks at each message of a server before pg-protocol's parser does; called by connection.ts. The parser trusts its
 * input: a type that it does not know becomes an error without fields, and an ErrorResponse or NoticeResponse
 * without its terminator keeps it reading for ever. And it leaves out the one severity that is not translated.
 */
import { ConvoyError } from '../errors.js';

/** Every type that a server sends to a client that does not ask for a protocol newer than 3.0. */
const KNOWN_TYPES: ReadonlySet<number> = new Set(Buffer.from('123ACDEGHIKNRSTWZcnst'));

export const ERROR_RESPONSE = 0x45;
const NOTICE_RESPONSE = 0x4e;

/**
 * @param frame the whole message; its body starts at offset 5
 * @throws ConvoyError `untrusted_peer`
 */
export function checkBackendMessage(type: number, frame: Buffer): void {
  const hasFields = type === ERROR_RESPONSE || type === NOTICE_RESPONSE;
  if (KNOWN_TYPES.has(type) && (!hasFields || areFieldsTerminated(frame))) return;
  const name = String.fromCodePoint(type);
  throw new ConvoyError(
    'untrusted_peer',
    `the server sent an invalid message of type ${JSON.stringify(name)}`,
  );
}

/** Fields are a code and a string each; a lone zero ends them, so the string before it ends right there. */
function areFieldsTerminated(frame: Buffer): boolean {
  const body = frame.subarray(5);
  return body.at(-1) === 0 && (body.length === 1 || body.at(-2) === 0);
}

/** Field V of an ErrorResponse that was checked: "ERROR", "FATAL" or "PANIC" in every language; S is in the server's. */
export function severityOf(frame: Buffer): string | undefined {
  const fields = frame.toString('utf8', 5).split('\0');
  return fields.find((field) => field.startsWith('V'))?.slice(1);
}
