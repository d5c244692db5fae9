/*
 * From one timeline to the next: what the server says at the end of one, and the history file of the other. Used by
 * wal-receiver.ts.
 * Rules: ReceiveXlogStream, ReadEndOfStreamingResult and writeTimeLineHistoryFile in PostgreSQL's receivelog.c.
 */
import { ConvoyError } from '../errors.js';
import { MAX_HISTORY_FILE_BYTES, READ_SILENCE_MS } from '../limits.js';
import { formatLsn, parseLsn, type Lsn } from '../lsn.js';
import { historyFileName } from '../pgdata/wal-names.js';
import type { ResultSet } from '../wire/command-run.js';
import type { ServerConnection } from '../wire/connection.js';

/** A point on a timeline. */
export interface TimelinePoint {
  readonly timeline: number;
  readonly lsn: Lsn;
}

/**
 * Where the next timeline begins, out of the answer to a START_REPLICATION that the server has ended.
 *
 * @param received the timeline that has ended, and up to where its WAL has come
 * @throws ConvoyError `connection_lost` where the server names no other; `untrusted_peer` for one that cannot follow
 */
export function decodeNextTimeline(sets: readonly ResultSet[], received: TimelinePoint): TimelinePoint {
  const row = sets[0]?.rows[0];
  if (row === undefined) {
    throw new ConvoyError('connection_lost', 'replication stream was terminated before stop point');
  }
  const timeline = Number(row[0]);
  const lsn = parseLsn(row[1] ?? '');
  if (row.length !== 2 || !Number.isInteger(timeline) || timeline > 0xffff_ffff || lsn === undefined) {
    throw new ConvoyError('untrusted_peer', 'unexpected result set after end-of-timeline');
  }
  if (timeline <= received.timeline) {
    throw new ConvoyError(
      'untrusted_peer',
      `server reported unexpected next timeline ${timeline}, following timeline ${received.timeline}`,
    );
  }
  if (lsn > received.lsn) {
    throw new ConvoyError(
      'untrusted_peer',
      `server stopped streaming timeline ${received.timeline} at ${formatLsn(received.lsn)}, ` +
        `but reported next timeline ${timeline} to begin at ${formatLsn(lsn)}`,
    );
  }
  return { timeline, lsn };
}

export interface HistoryFile {
  readonly name: string;
  readonly content: Buffer;
}

/** The history file of a timeline, which the first has none of. @throws ConvoyError `server_error`, `untrusted_peer` */
export async function fetchHistory(
  connection: Pick<ServerConnection, 'run'>,
  timeline: number,
): Promise<HistoryFile | undefined> {
  if (timeline === 1) return undefined;
  const [set] = await connection.run(`TIMELINE_HISTORY ${timeline}`, { silenceLimitMs: READ_SILENCE_MS });
  const [reported, text] = set?.rows[0] ?? [];
  const name = historyFileName(timeline);
  if (typeof reported !== 'string' || typeof text !== 'string' || set?.rows.length !== 1) {
    throw new ConvoyError('untrusted_peer', 'unexpected response to TIMELINE_HISTORY command');
  }
  if (reported !== name) {
    throw new ConvoyError(
      'untrusted_peer',
      `server reported unexpected history file name for timeline ${timeline}: ${reported.slice(0, 100)}`,
    );
  }
  const content = Buffer.from(text);
  if (content.length > MAX_HISTORY_FILE_BYTES) {
    throw new ConvoyError('untrusted_peer', `history file "${name}" is too large`);
  }
  return { name, content };
}
