/*
 * The beginning of a client's connection: the offers of encryption, then its first real packet. Called by session.ts.
 * Rules: ProcessStartupPacket in PostgreSQL's src/backend/tcop/backend_startup.c.
 */
import type { Socket } from 'node:net';
import { TLSSocket, type SecureContext } from 'node:tls';
import { ConvoyError } from '../errors.js';
import { decodeInitialPacket, initialPacketLength, type InitialPacket } from '../wire/frontend-messages.js';

const ACCEPT = 'S';
const REFUSE = 'N';

/** ContentType "handshake": the client begins TLS without asking (sslnegotiation=direct, from 17 on). */
const TLS_HANDSHAKE = 0x16;

/** What such a client must name (PG_ALPN_PROTOCOL in src/include/libpq/pqcomm.h). */
const ALPN_PROTOCOL = 'postgresql';

/** An SSLRequest and a GSSENCRequest at most, each once. */
const MAX_OFFERS = 2;

export type FirstPacket = Exclude<InitialPacket, { kind: 'ssl_request' | 'gssenc_request' }>;

export interface NegotiatedClient {
  /** Paused, nothing read ahead. */
  readonly stream: Socket;
  readonly packet: FirstPacket;
  readonly isEncrypted: boolean;
}

/**
 * Answers the client's offers of encryption and reads its startup packet or cancel request.
 *
 * @param onStream told of the stream that answers go to, whenever it changes
 * @throws ConvoyError for a broken protocol, or a client that is gone
 */
export async function negotiate(
  socket: Socket,
  secureContext: SecureContext | undefined,
  onStream: (stream: Socket) => void,
): Promise<NegotiatedClient> {
  let stream = socket;
  let isEncrypted = false;
  onStream(stream);
  if (secureContext !== undefined && (await peekByte(stream)) === TLS_HANDSHAKE) {
    stream = await startTls(stream, secureContext);
    isEncrypted = true;
    onStream(stream);
    if ((stream as TLSSocket).alpnProtocol !== ALPN_PROTOCOL) {
      throw violation('received direct SSL connection request without ALPN protocol negotiation extension');
    }
  }
  for (let offers = 0; offers <= MAX_OFFERS; offers += 1) {
    const packet = await readInitialPacket(stream);
    switch (packet.kind) {
      case 'startup':
      case 'cancel_request':
        return { stream, packet, isEncrypted };
      case 'gssenc_request':
        assertNothingBehind(stream, 'GSSAPI encryption');
        stream.write(REFUSE);
        break;
      case 'ssl_request':
        assertNothingBehind(stream, 'SSL');
        if (secureContext === undefined || isEncrypted) {
          stream.write(REFUSE);
        } else {
          stream.write(ACCEPT);
          stream = await startTls(stream, secureContext);
          isEncrypted = true;
          onStream(stream);
        }
        break;
    }
  }
  throw violation('expected startup packet after encryption requests');
}

/** Bytes behind such a request would be taken for encrypted ones (CVE-2021-23222). */
function assertNothingBehind(stream: Socket, kind: string): void {
  if (stream.readableLength > 0) throw violation(`received unencrypted data after ${kind} request`);
}

async function readInitialPacket(stream: Socket): Promise<InitialPacket> {
  const head = await readExactly(stream, 4);
  const length = initialPacketLength(head) ?? 0;
  const rest = await readExactly(stream, length - head.length);
  return decodeInitialPacket(Buffer.concat([head, rest]));
}

async function peekByte(stream: Socket): Promise<number | undefined> {
  const byte = await readExactly(stream, 1);
  stream.unshift(byte);
  return byte[0];
}

/** Reads so many bytes; what has come behind them stays in the stream, which is paused. */
async function readExactly(stream: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let received = 0;
  await new Promise<void>((resolve, reject) => {
    const stop = (): void => {
      stream.pause();
      stream.off('data', onData);
      stream.off('end', onEnd);
      stream.off('close', onEnd);
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      received += chunk.length;
      if (received < bytes) return;
      stop();
      resolve();
    };
    const onEnd = (): void => {
      stop();
      reject(
        new ConvoyError('connection_lost', 'connection to client lost: the client closed the connection'),
      );
    };
    if (stream.readableEnded || stream.destroyed) {
      onEnd();
      return;
    }
    stream.on('data', onData);
    stream.on('end', onEnd);
    stream.on('close', onEnd);
    stream.resume();
  });
  const read = Buffer.concat(chunks);
  if (read.length > bytes) stream.unshift(read.subarray(bytes));
  return read.subarray(0, bytes);
}

async function startTls(socket: Socket, secureContext: SecureContext): Promise<TLSSocket> {
  const stream = new TLSSocket(socket, {
    isServer: true,
    secureContext,
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  await new Promise<void>((resolve, reject) => {
    const fail = (error?: Error): void => {
      const reason = error?.message ?? 'the client closed the connection';
      reject(new ConvoyError('connection_lost', `could not accept SSL connection: ${reason}`));
    };
    stream.once('secure', resolve);
    stream.once('error', fail);
    stream.once('close', () => fail());
  });
  // a client that goes away later is noticed by whoever reads then
  stream.removeAllListeners('error');
  stream.on('error', () => {});
  return stream;
}

function violation(message: string): ConvoyError {
  return new ConvoyError('untrusted_peer', message, { sqlState: '08P01' });
}
