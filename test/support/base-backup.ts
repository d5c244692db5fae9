/*
 * A server's own BASE_BACKUP, taken over the replication protocol without pg_basebackup (which exists for one version only): what
 * PostgreSQL itself would copy, and the manifest that it writes.
 */
import { buffer } from 'node:stream/consumers';
import type { Client, Connection, Submittable } from 'pg';
import { extract } from 'tar-stream';
import { connect, type Endpoint } from './postgres.js';

export interface BaseBackup {
  /** Tar archives by the oid of their tablespace, the data directory's by "base". */
  readonly archives: ReadonlyMap<string, Buffer>;
  readonly manifest: string;
}

export interface BackedUpFile {
  readonly name: string;
  readonly type: 'file' | 'directory' | 'link';
  /** Permission bits. */
  readonly mode: number;
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  readonly content: Buffer;
}

/** The parts of pg.Connection that its types do not declare. */
interface CopyEvents {
  on(event: 'copyOutResponse', listener: () => void): void;
}

/** Collects the answer to BASE_BACKUP; @see "Streaming Replication Protocol" in PostgreSQL's documentation. */
class BaseBackupRun implements Submittable {
  readonly rows: (string | null)[][] = [];
  /** A stream a CopyOutResponse; its messages as they came. */
  readonly streams: Buffer[][] = [];
  readonly finished: Promise<void>;
  readonly #text: string;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(text: string) {
    this.#text = text;
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  submit(connection: Connection): void {
    connection.query(this.#text);
  }

  handleRowDescription(): void {}

  handleDataRow({ fields }: { readonly fields: (string | null)[] }): void {
    this.rows.push(fields);
  }

  handleCopyData({ chunk }: { readonly chunk: Buffer }): void {
    this.streams.at(-1)?.push(Buffer.from(chunk));
  }

  handleCommandComplete(): void {}

  handleEmptyQuery(): void {}

  handleReadyForQuery(): void {
    this.#resolve();
  }

  handleError(error: Error): void {
    this.#reject(error);
  }
}

/** Takes a backup with a manifest, without WAL. @param checksums algorithm of the manifest */
export async function baseBackup(server: Endpoint, major: number, checksums = 'CRC32C'): Promise<BaseBackup> {
  const client: Client = await connect(server, { replication: 'true' } as object);
  try {
    const run = new BaseBackupRun(
      major < 15
        ? `BASE_BACKUP LABEL 'test' FAST NOWAIT MANIFEST 'yes' MANIFEST_CHECKSUMS '${checksums}'`
        : `BASE_BACKUP (LABEL 'test', CHECKPOINT 'fast', WAIT false, MANIFEST 'yes', MANIFEST_CHECKSUMS '${checksums}')`,
    );
    const { connection } = client as unknown as { readonly connection: CopyEvents };
    connection.on('copyOutResponse', () => run.streams.push([]));
    client.query(run);
    await run.finished;
    return major < 15 ? splitByStream(run) : splitByMessage(run.streams.flat());
  } finally {
    await client.end();
  }
}

/** Up to 14: a stream a tablespace, in the order of the second result set, and one for the manifest. */
function splitByStream({ rows, streams }: BaseBackupRun): BaseBackup {
  const oids = rows.slice(1, streams.length).map(([oid]) => oid ?? 'base');
  const archives = new Map(oids.map((oid, index) => [oid, Buffer.concat(streams[index] ?? [])]));
  return { archives, manifest: Buffer.concat(streams.at(-1) ?? []).toString() };
}

/** From 15 on: one stream of messages that begin an archive (n), or the manifest (m), or bring data (d). */
function splitByMessage(messages: readonly Buffer[]): BaseBackup {
  const archives = new Map<string, Buffer[]>();
  const manifest: Buffer[] = [];
  let current = manifest;
  for (const message of messages) {
    const type = String.fromCodePoint(message[0] ?? 0);
    if (type === 'n') {
      const [name = ''] = message.toString('utf8', 1).split('\0');
      current = [];
      archives.set(name.replace(/\.tar$/, ''), current);
    } else if (type === 'm') {
      current = manifest;
    } else if (type === 'd') {
      current.push(message.subarray(1));
    }
  }
  return {
    archives: new Map([...archives].map(([name, chunks]) => [name, Buffer.concat(chunks)])),
    manifest: Buffer.concat(manifest).toString(),
  };
}

/** The members of a tar archive, names of directories without their slash. */
export async function filesInArchive(archive: Buffer): Promise<BackedUpFile[]> {
  const extractor = extract();
  extractor.end(archive);
  const files: BackedUpFile[] = [];
  for await (const member of extractor) {
    const { name, type, size, mtime, mode } = member.header;
    files.push({
      mode: mode ?? 0,
      name: name.replace(/^\.\//, '').replace(/\/$/, ''),
      type: type === 'symlink' ? 'link' : type === 'directory' ? 'directory' : 'file',
      size,
      mtime: (mtime?.getTime() ?? 0) / 1000,
      content: await buffer(member),
    });
  }
  return files;
}
