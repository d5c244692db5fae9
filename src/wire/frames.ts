/*
 * Cuts a byte stream of protocol 3 into its messages (type byte, length, body), wherever the chunks are split.
 * Used on both sides: by the client connection in front of pg-protocol's parser, by `serve` for what clients
 * send, and by the relay to see where a walsender's answer ends. Nothing is copied but the messages that are
 * split over chunks; bodies of streamed types are handed on in pieces and never collected.
 */
import { ConvoyError } from '../errors.js';

const HEADER_BYTES = 5;

/** What a {@link FrameWalker} calls; every buffer is borrowed and only valid until the call returns. */
export interface FrameHandler {
  /** A whole message, header included (body starts at offset 5). */
  message(type: number, frame: Buffer): void;
  /** A piece of the body of a message of a streamed type; `last` with the piece that ends it (maybe empty). */
  piece(type: number, chunk: Buffer, last: boolean): void;
}

export interface FrameRules {
  /** Types whose bodies are handed on in pieces. */
  readonly streamed: (type: number) => boolean;
  /** The largest body (bytes) of this type that the peer may send; 0 lets only an empty one pass. */
  readonly maxBodyBytes: (type: number) => number;
}

export class FrameWalker {
  readonly #handler: FrameHandler;
  readonly #rules: FrameRules;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerFilled = 0;
  /** Bytes of a streamed body still to come. */
  #streaming = 0;
  #streamedType = 0;
  /** A message that is split over chunks, header included. */
  #partial: Buffer | undefined;
  #partialFilled = 0;

  constructor(handler: FrameHandler, rules: FrameRules) {
    this.#handler = handler;
    this.#rules = rules;
  }

  /** True between two messages. */
  get atBoundary(): boolean {
    return this.#headerFilled === 0 && this.#streaming === 0 && this.#partial === undefined;
  }

  /** @throws ConvoyError `untrusted_peer` for a length outside its bound; the stream is unusable then */
  push(chunk: Buffer): void {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#streaming > 0) {
        offset = this.#stream(chunk, offset);
      } else if (this.#partial !== undefined) {
        offset = this.#collect(this.#partial, chunk, offset);
      } else {
        offset = this.#begin(chunk, offset);
      }
    }
  }

  #stream(chunk: Buffer, offset: number): number {
    const end = Math.min(chunk.length, offset + this.#streaming);
    this.#streaming -= end - offset;
    this.#handler.piece(this.#streamedType, chunk.subarray(offset, end), this.#streaming === 0);
    return end;
  }

  #collect(partial: Buffer, chunk: Buffer, offset: number): number {
    const copied = chunk.copy(partial, this.#partialFilled, offset);
    this.#partialFilled += copied;
    if (this.#partialFilled === partial.length) {
      this.#partial = undefined;
      this.#handler.message(partial.readUInt8(0), partial);
    }
    return offset + copied;
  }

  #begin(chunk: Buffer, offset: number): number {
    let header = chunk;
    let at = offset;
    let next = offset + HEADER_BYTES;
    if (this.#headerFilled > 0 || next > chunk.length) {
      const copied = chunk.copy(this.#header, this.#headerFilled, offset);
      this.#headerFilled += copied;
      if (this.#headerFilled < HEADER_BYTES) return offset + copied;
      this.#headerFilled = 0;
      header = this.#header;
      at = 0;
      next = offset + copied;
    }
    const type = header.readUInt8(at);
    const bodyBytes = header.readUInt32BE(at + 1) - 4;
    if (bodyBytes < 0 || bodyBytes > this.#rules.maxBodyBytes(type)) throw badFrame(type, bodyBytes + 4);
    if (this.#rules.streamed(type)) {
      this.#streaming = bodyBytes;
      this.#streamedType = type;
      if (bodyBytes === 0) this.#handler.piece(type, chunk.subarray(next, next), true);
      return next;
    }
    if (header === chunk && next + bodyBytes <= chunk.length) {
      this.#handler.message(type, chunk.subarray(at, next + bodyBytes));
      return next + bodyBytes;
    }
    const partial = Buffer.allocUnsafe(HEADER_BYTES + bodyBytes);
    header.copy(partial, 0, at, at + HEADER_BYTES);
    this.#partialFilled = HEADER_BYTES;
    if (bodyBytes === 0) this.#handler.message(type, partial);
    else this.#partial = partial;
    return next;
  }
}

function badFrame(type: number, lengthBytes: number): ConvoyError {
  const name = type >= 0x21 && type <= 0x7e ? `"${String.fromCodePoint(type)}"` : `0x${type.toString(16)}`;
  return new ConvoyError(
    'untrusted_peer',
    `invalid message in the protocol stream: type ${name}, length ${lengthBytes}`,
    { sqlState: '08P01' },
  );
}
