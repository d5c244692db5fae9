/*
 * The WAL that a backup needs, after pg_control in STOP_BACKUP's COPY: segments from start to end in order, each marked
 * as archived, then all timeline history files. Called by stop-backup.ts.
 * Source: perform_base_backup of PostgreSQL's src/backend/backup/basebackup.c, whose messages these are.
 */
import { closeSync, fstatSync, openSync, readdirSync, statSync, type Stats } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError, isSystemError } from '../errors.js';
import { firstMissingSegment, neededSegments, segmentNumbersOf } from '../pgdata/backup-wal.js';
import { isHistoryFileName, walSegmentName } from '../pgdata/wal-names.js';
import type { Position } from '../replication/result-sets.js';
import type { CommandContext } from './command-context.js';
import { FileContent } from './file-content.js';
import type { TarOutput } from './tar-output.js';
import { TransferRate } from './transfer-rate.js';

const WAL_DIRECTORY = 'pg_wal';

/** Sends everything from `start` up to `end`. @throws ConvoyError `wal_missing` where a segment is gone */
export async function sendWalFiles(
  start: Position,
  end: Position,
  tar: TarOutput,
  context: CommandContext,
): Promise<void> {
  const { cluster, pageMemory } = context;
  const directory = path.join(cluster.dataDirectory, WAL_DIRECTORY);
  const names = readDirectory(directory);
  const segments = segmentsToSend(names, start, end, cluster.walSegmentBytes);
  const ring = pageMemory.acquire();
  try {
    const content = new FileContent(ring, tar, new TransferRate(undefined), context);
    const sender = new WalSender(directory, tar, content);
    for (const name of segments) await sender.sendSegment(name, cluster.walSegmentBytes);
    for (const name of names.filter(isHistoryFileName).toSorted()) await sender.sendHistory(name);
  } finally {
    ring.close();
  }
}

/**
 * The names of the segments in the range, in order, of whatever timeline.
 *
 * @throws ConvoyError naming the first one that is missing
 */
export function segmentsToSend(
  names: readonly string[],
  start: Position,
  end: Position,
  segmentBytes: number,
): string[] {
  const wal = { startLsn: start.lsn, stopLsn: end.lsn, segmentBytes };
  const needed = neededSegments(names, wal);
  const segmentNumber = firstMissingSegment(segmentNumbersOf(needed, segmentBytes), wal);
  if (segmentNumber === undefined) return needed;
  const missing = walSegmentName({ timeline: end.timeline, segmentNumber }, segmentBytes);
  throw new ConvoyError('wal_missing', `could not find WAL file "${missing}"`, {
    hint: KEEP_WAL,
    sqlState: 'XX000',
  });
}

const KEEP_WAL = 'let the server keep more WAL: wal_keep_size, a replication slot or archiving';

class WalSender {
  readonly #directory: string;
  readonly #tar: TarOutput;
  readonly #content: FileContent;

  constructor(directory: string, tar: TarOutput, content: FileContent) {
    this.#directory = directory;
    this.#tar = tar;
    this.#content = content;
  }

  async sendSegment(name: string, segmentBytes: number): Promise<void> {
    await this.#send(name, (stats, file) => {
      const assertThere = (): void => {
        if (isStillAt(file, stats)) return;
        const message = `requested WAL segment ${name} has already been removed`;
        throw new ConvoyError('wal_missing', message, { hint: KEEP_WAL, sqlState: '58P01' });
      };
      const onShort = (): never => {
        assertThere();
        throw new ConvoyError('wal_missing', `unexpected WAL file size "${name}"`, { sqlState: '58P01' });
      };
      if (stats.size !== segmentBytes) onShort();
      // a segment that is recycled while it is read holds other WAL
      return { onRead: assertThere, onShort };
    });
  }

  sendHistory(name: string): Promise<void> {
    return this.#send(name, () => ({}));
  }

  async #send(
    name: string,
    guard: (stats: Stats, file: string) => { onRead?: () => void; onShort?: () => never },
  ): Promise<void> {
    const file = path.join(this.#directory, name);
    const descriptor = openFile(file, name);
    try {
      const stats = fstatSync(descriptor);
      const { mode, uid, gid, mtimeMs, size } = stats;
      const facts = { mode, uid, gid, mtimeMs };
      const source = { path: `${WAL_DIRECTORY}/${name}`, descriptor, size, ...guard(stats, file) };
      this.#tar.beginFile({ ...facts, name: source.path }, size);
      await this.#content.send(source);
      await this.#tar.endFile();
      const doneName = `${WAL_DIRECTORY}/archive_status/${name}.done`;
      await this.#tar.file(
        { ...facts, mode: mode & 0o666, mtimeMs: Date.now(), name: doneName },
        Buffer.alloc(0),
      );
    } finally {
      closeSync(descriptor);
    }
  }
}

function openFile(file: string, name: string): number {
  try {
    return openSync(file, 'r');
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) throw fileError('open file', `${WAL_DIRECTORY}/${name}`, error);
    const message = `requested WAL segment ${name} has already been removed`;
    throw new ConvoyError('wal_missing', message, { cause: error, hint: KEEP_WAL, sqlState: '58P01' });
  }
}

function isStillAt(file: string, stats: Stats): boolean {
  const now = statSync(file, { throwIfNoEntry: false });
  return now !== undefined && now.ino === stats.ino && now.dev === stats.dev && now.size === stats.size;
}

function readDirectory(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    throw fileError('open directory', WAL_DIRECTORY, error);
  }
}
