/*
 * The WAL of a finished backup, read over SQL: the segments from its start to its end with their .done files, then all
 * history files, as the server's own base backup sends them. Source: perform_base_backup in PostgreSQL's basebackup.c.
 */
import { MAX_HISTORY_FILE_BYTES, READ_SILENCE_MS } from '../limits.js';
import type { Lsn } from '../lsn.js';
import { firstMissingSegment, neededSegments, segmentNumbersOf } from '../pgdata/backup-wal.js';
import { isHistoryFileName, segmentNumberOf, walSegmentName } from '../pgdata/wal-names.js';
import { ChunkRowReader, type ChunkRowHandler } from '../wire/binary-copy.js';
import type { ServerConnection } from '../wire/connection.js';
import type { SourceServer, StopReceiver } from './source.js';
import { readBytes } from './sql-session.js';
import { readStatement } from './sql-statements.js';
import { StopMembers } from './stop-members.js';
import { walGone } from './wal-gone.js';

const CHUNK_BYTES = 512 * 1024;

/** $1 and $2 are the first and the last segment, without the timeline. */
const WAL_NAMES = `SELECT n FROM pg_catalog.pg_ls_dir('pg_wal', true, false) AS n
  WHERE n !~ '^[0-9A-F]{24}$' OR pg_catalog.substr(n, 9) COLLATE "C" BETWEEN $1 AND $2`;

export interface WalToSend {
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  readonly timeline: number;
  readonly server: SourceServer;
  readonly fileMode: number;
}

/** @throws ConvoyError `wal_missing` where a segment is gone */
export async function sendWal(
  connection: ServerConnection,
  wal: WalToSend,
  receiver: StopReceiver,
): Promise<void> {
  const { server, fileMode: mode } = wal;
  const mtime = Math.floor(Date.now() / 1000);
  const names = await listWal(connection, wal);
  const members = new StopMembers(receiver, {
    includeWal: true,
    segmentBytes: server.walSegmentBytes,
    startLsn: wal.startLsn,
  });
  for (const name of segmentsToRead(names, wal)) {
    const path = `pg_wal/${name}`;
    const rows = new WholeFileRows(members, () => {
      members.begin({ name: path, type: 'file', size: server.walSegmentBytes, mode, mtime, linkName: '' });
    });
    const reader = new ChunkRowReader(rows, CHUNK_BYTES);
    const statement = readStatement([{ path, offset: 0, length: server.walSegmentBytes }], CHUNK_BYTES);
    // one after the other: the oldest is the first to be recycled
    // oxlint-disable-next-line eslint/no-await-in-loop
    await connection.run(statement, { copy: (piece) => reader.push(piece), silenceLimitMs: READ_SILENCE_MS });
    reader.finish();
    if (rows.bytes !== server.walSegmentBytes) throw walGone(name, 'slot possible');
    members.end();
    sendEmpty(members, name, { mode, mtime });
  }
  for (const name of names.filter(isHistoryFileName)) {
    // oxlint-disable-next-line eslint/no-await-in-loop
    const bytes = await readBytes(connection, `pg_wal/${name}`, 0, MAX_HISTORY_FILE_BYTES);
    if (bytes === undefined) throw walGone(name, 'slot possible');
    members.begin({ name: `pg_wal/${name}`, type: 'file', size: bytes.length, mode, mtime, linkName: '' });
    void members.data(bytes);
    members.end();
    sendEmpty(members, name, { mode, mtime });
  }
  members.finishWal(wal.stopLsn);
}

/** Names in pg_wal, without the segments that lie outside: a server may keep hundreds of thousands. */
async function listWal(
  connection: ServerConnection,
  { startLsn, stopLsn, server }: WalToSend,
): Promise<string[]> {
  const placeOf = (lsn: Lsn): string =>
    walSegmentName(
      { timeline: 0, segmentNumber: segmentNumberOf(lsn, server.walSegmentBytes) },
      server.walSegmentBytes,
    ).slice(8);
  const rows = await connection.query(WAL_NAMES, [placeOf(startLsn), placeOf(stopLsn)]);
  return rows.map(([name]) => name ?? '');
}

/** @throws ConvoyError `wal_missing` naming the first one that is gone */
function segmentsToRead(names: readonly string[], { server, timeline, ...range }: WalToSend): string[] {
  const segmentBytes = server.walSegmentBytes;
  const wal = { ...range, segmentBytes };
  const needed = neededSegments(names, wal);
  const segmentNumber = firstMissingSegment(segmentNumbersOf(needed, segmentBytes), wal);
  if (segmentNumber === undefined) return needed;
  throw walGone(walSegmentName({ timeline, segmentNumber }, segmentBytes), 'slot possible');
}

function sendEmpty(
  members: StopMembers,
  name: string,
  { mode, mtime }: { mode: number; mtime: number },
): void {
  members.begin({
    name: `pg_wal/archive_status/${name}.done`,
    type: 'file',
    size: 0,
    mode,
    mtime,
    linkName: '',
  });
  members.end();
}

/** The rows of one file that must be there whole. */
class WholeFileRows implements ChunkRowHandler {
  bytes = 0;
  readonly #members: StopMembers;
  readonly #begin: () => void;

  constructor(members: StopMembers, begin: () => void) {
    this.#members = members;
    this.#begin = begin;
  }

  begin(_index: number, offset: number, length: number | undefined): void {
    if (offset === 0 && length !== undefined) this.#begin();
  }

  data(chunk: Buffer): Promise<void> | undefined {
    this.bytes += chunk.length;
    return this.#members.data(chunk);
  }

  end(): void {}
}
