/*
 * Messages of a client, decoded: what `serve` receives. The encoder is pg-protocol's serializer on the client's
 * side; the tests hold the two against each other. Rules: PostgreSQL's src/backend/tcop/backend_startup.c.
 */
import { ConvoyError } from '../errors.js';
import { MAX_STARTUP_PACKET_BYTES } from '../limits.js';

/** The first packet of a connection; it has a length but no type byte. */
export type InitialPacket =
  | { readonly kind: 'ssl_request' }
  | { readonly kind: 'gssenc_request' }
  | { readonly kind: 'cancel_request'; readonly processId: number; readonly secretKey: Buffer }
  | {
      readonly kind: 'startup';
      /** Minor version of protocol 3 that the client asks for. */
      readonly minor: number;
      readonly parameters: ReadonlyMap<string, string>;
    };

const CANCEL_REQUEST = 80877102;
const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;

/**
 * The length of the initial packet that begins in `received`, or undefined until its 4 bytes are there.
 * @throws ConvoyError `untrusted_peer` (08P01) for a length that no client sends
 */
export function initialPacketLength(received: Buffer): number | undefined {
  if (received.length < 4) return undefined;
  const length = received.readUInt32BE(0);
  if (length < 8 || length > MAX_STARTUP_PACKET_BYTES) throw violation('invalid length of startup packet');
  return length;
}

/** @throws ConvoyError (08P01, 0A000 for another protocol version) */
export function decodeInitialPacket(packet: Buffer): InitialPacket {
  const code = packet.readUInt32BE(4);
  switch (code) {
    case SSL_REQUEST:
      return { kind: 'ssl_request' };
    case GSSENC_REQUEST:
      return { kind: 'gssenc_request' };
    case CANCEL_REQUEST:
      if (packet.length < 16) throw violation('invalid length of cancel request');
      return { kind: 'cancel_request', processId: packet.readUInt32BE(8), secretKey: packet.subarray(12) };
    default:
      return {
        kind: 'startup',
        minor: protocolMinor(code),
        parameters: decodeParameters(packet.subarray(8)),
      };
  }
}

function protocolMinor(version: number): number {
  const major = version >>> 16;
  if (major !== 3) {
    const message = `unsupported frontend protocol ${major}.${version & 0xffff}: server supports 3.0`;
    throw new ConvoyError('untrusted_peer', message, { sqlState: '0A000' });
  }
  return version & 0xffff;
}

function decodeParameters(body: Buffer): Map<string, string> {
  const parameters = new Map<string, string>();
  let offset = 0;
  for (;;) {
    const name = cstringAt(body, offset);
    offset += name.bytes;
    if (name.text === '') break;
    const value = cstringAt(body, offset);
    offset += value.bytes;
    parameters.set(name.text, value.text);
  }
  if (offset !== body.length)
    throw violation('invalid startup packet layout: expected terminator as last byte');
  return parameters;
}

/** Body of a Query message (frame with its 5-byte head). */
export function decodeQuery(frame: Buffer): string {
  const { text, bytes } = cstringAt(frame, 5);
  if (5 + bytes !== frame.length) throw violation('invalid message format');
  return text;
}

export interface SaslInitialResponse {
  readonly mechanism: string;
  readonly data: string;
}

/** Body of a SASLInitialResponse (frame with its 5-byte head, type "p"). */
export function decodeSaslInitialResponse(frame: Buffer): SaslInitialResponse {
  const mechanism = cstringAt(frame, 5);
  const at = 5 + mechanism.bytes;
  if (at + 4 > frame.length) throw violation('invalid message format');
  const length = frame.readInt32BE(at);
  const data = length === -1 ? Buffer.alloc(0) : frame.subarray(at + 4);
  if (length !== -1 && length !== data.length) throw violation('invalid message format');
  return { mechanism: mechanism.text, data: data.toString() };
}

/** Body of a SASLResponse (frame with its 5-byte head, type "p"). */
export function decodeSaslResponse(frame: Buffer): string {
  return frame.toString('utf8', 5);
}

function cstringAt(buffer: Buffer, offset: number): { text: string; bytes: number } {
  const end = buffer.indexOf(0, offset);
  if (end < 0) throw violation('invalid string in message');
  return { text: buffer.toString('utf8', offset, end), bytes: end - offset + 1 };
}

function violation(message: string): ConvoyError {
  return new ConvoyError('untrusted_peer', message, { sqlState: '08P01' });
}
