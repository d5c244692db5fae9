/*
 * How long each kind of message of a client may be. Asked by client-channel.ts before a message is collected.
 * Source: SocketBackend in PostgreSQL's src/backend/tcop/postgres.c.
 */
import { MAX_AUTHENTICATION_MESSAGE_BYTES, MAX_COMMAND_BYTES } from '../limits.js';

const KiB = 1024;

/** PQ_SMALL_MESSAGE_LIMIT: all that a message without user data can need. */
const SMALL_MESSAGE_BYTES = 10_000;

/** For messages of the extended protocol, which are refused all the same, but politely. */
const REFUSED_MESSAGE_BYTES = 1024 * KiB;

const REFUSED: ReadonlySet<string> = new Set(['P', 'B', 'E', 'D', 'C', 'F']);

/** Bytes of the body; 0 where the client may not send the type now. */
export function maxMessageBytes(type: number, isLoggedIn: boolean): number {
  const letter = String.fromCodePoint(type);
  if (!isLoggedIn) return letter === 'p' ? MAX_AUTHENTICATION_MESSAGE_BYTES : 0;
  if (letter === 'Q' || letter === 'd') return MAX_COMMAND_BYTES;
  return REFUSED.has(letter) ? REFUSED_MESSAGE_BYTES : SMALL_MESSAGE_BYTES;
}
