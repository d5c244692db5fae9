/*
 * Messages of a server, encoded: what `serve` sends. The decoder is pg-protocol's parser on the client's side;
 * the tests hold the two against each other. Formats: PostgreSQL's documentation, "Message Formats".
 */

/** One field of a RowDescription in text format. */
export interface FieldDescription {
  readonly name: string;
  readonly typeOid: number;
  readonly typeLength: number;
}

/** Fields of an ErrorResponse or NoticeResponse. */
export interface MessageFields {
  readonly severity: 'ERROR' | 'FATAL' | 'WARNING' | 'NOTICE' | 'LOG';
  readonly sqlState: string;
  readonly message: string;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
}

function int16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function cstring(text: string): Buffer {
  return Buffer.from(`${text.replaceAll('\0', '')}\0`);
}

function frame(type: string, ...parts: readonly Buffer[]): Buffer {
  const bodyBytes = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Buffer.from(type, 'latin1'), int32(bodyBytes + 4), ...parts]);
}

export function authenticationOk(): Buffer {
  return frame('R', int32(0));
}

export function authenticationSasl(mechanisms: readonly string[]): Buffer {
  return frame('R', int32(10), ...mechanisms.map(cstring), cstring(''));
}

export function authenticationSaslContinue(data: string): Buffer {
  return frame('R', int32(11), Buffer.from(data));
}

export function authenticationSaslFinal(data: string): Buffer {
  return frame('R', int32(12), Buffer.from(data));
}

export function parameterStatus(name: string, value: string): Buffer {
  return frame('S', cstring(name), cstring(value));
}

export function backendKeyData(processId: number, secretKey: number): Buffer {
  return frame('K', int32(processId), int32(secretKey));
}

/** A replication connection is never in a transaction. */
export function readyForQuery(): Buffer {
  return frame('Z', Buffer.from('I'));
}

/** For a client that asks for a newer minor version, or for protocol options that do not exist here. */
export function negotiateProtocolVersion(newestMinor: number, unknownOptions: readonly string[]): Buffer {
  return frame('v', int32(newestMinor), int32(unknownOptions.length), ...unknownOptions.map(cstring));
}

export function rowDescription(fields: readonly FieldDescription[]): Buffer {
  const encoded = fields.map(({ name, typeOid, typeLength }) =>
    // table oid 0, attribute 0, type modifier 0, text format
    Buffer.concat([cstring(name), int32(0), int16(0), int32(typeOid), int16(typeLength), int32(0), int16(0)]),
  );
  return frame('T', int16(fields.length), ...encoded);
}

export function dataRow(values: readonly (string | null)[]): Buffer {
  const encoded = values.flatMap((value) => {
    if (value === null) return [int32(-1)];
    const bytes = Buffer.from(value);
    return [int32(bytes.length), bytes];
  });
  return frame('D', int16(values.length), ...encoded);
}

export function commandComplete(tag: string): Buffer {
  return frame('C', cstring(tag));
}

/** Format 0, no columns, as every COPY of a walsender. */
export function copyOutResponse(): Buffer {
  return frame('H', Buffer.from([0]), int16(0));
}

/** Only the head: the payload is written after it, uncopied. */
export function copyDataHeader(payloadBytes: number): Buffer {
  return Buffer.concat([Buffer.from('d'), int32(payloadBytes + 4)]);
}

export function copyDone(): Buffer {
  return frame('c');
}

export function errorResponse(fields: MessageFields): Buffer {
  return frame('E', ...encodeFields(fields));
}

export function noticeResponse(fields: MessageFields): Buffer {
  return frame('N', ...encodeFields(fields));
}

function encodeFields(fields: MessageFields): Buffer[] {
  const { severity, sqlState, message, detail, hint } = fields;
  const entries: [string, string | undefined][] = [
    ['S', severity],
    ['V', severity],
    ['C', sqlState],
    ['M', message],
    ['D', detail],
    ['H', hint],
  ];
  const encoded = entries.flatMap(([code, value]) => (value === undefined ? [] : [cstring(code + value)]));
  return [...encoded, Buffer.from([0])];
}
