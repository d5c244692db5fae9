/*
 * `pgconvoy demo`: the main job on a PostgreSQL of its own, told line by line. Fills a cluster, backs it up with the
 * real command line while rows are being committed, starts the result as a second server, and checks it there.
 * Whatever way it ends, the servers are stopped and everything is removed.
 */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { parseLsn, type Lsn } from '../lsn.js';
import { MANIFEST_PATH } from '../manifest/manifest.js';
import { runBackup } from './backup-process.js';
import { contentDigest, fillTables, readAllTables } from './demo-data.js';
import { EmbeddedServer } from './embedded-server.js';
import { removeDirectory } from './left-at-exit.js';
import { countLedgerRows, LedgerWriter } from './ledger-writer.js';
import { passwordEnvironment, shownCommand } from './own-program.js';
import { embeddedBinaries } from './postgres-binaries.js';
import { serveArguments, ServeProcess } from './serve-process.js';
import { openSql } from './server-sql.js';
import { serverAccount, temporaryDirectory, type ServerAccount } from './server-account.js';

export interface DemoOptions {
  /** About this much is filled into the tables. */
  readonly megabytes: number;
  /** Takes the text of the demo; a line may come in two parts. */
  readonly write: (text: string) => void;
  /** Ends the demo; its reason is what the demo then throws. */
  readonly signal: AbortSignal;
}

const JOBS = 2;
const MEGABYTE = 1024 * 1024;
/** An empty cluster and its first WAL, twice. */
const EMPTY_CLUSTERS_BYTES = 200 * MEGABYTE;

/** @throws Error the first thing that went wrong, or the signal's reason */
export async function demo(options: DemoOptions): Promise<void> {
  const { signal, write } = options;
  const startedMs = performance.now();
  try {
    await new DemoRun(options).run();
  } catch (error) {
    // what a step says once it was made to fail is not the cause
    throw signal.aborted ? signal.reason : error;
  }
  write(`servers stopped, everything removed, ${secondsSince(startedMs)} in all\n`);
}

/** What the original server knows about the backup that the second server must hold. */
interface Expectation {
  readonly digest: string;
  readonly writer: LedgerWriter;
}

class DemoRun {
  readonly #options: DemoOptions;

  constructor(options: DemoOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const account = await serverAccount();
    await using folder = await openFolder(account);
    await this.#introduce(folder.path, account);
    await using server = await this.#startServer(folder.path);
    const digest = await this.#fill(server, folder.path);
    await using serve = await this.#serve(server);
    await using sql = await openSql(server, this.#options.signal);
    const writer = await LedgerWriter.start(sql);
    await this.#backup(server, serve, writer, folder.path);
    await this.#check(server, { digest, writer }, folder.path);
  }

  async #introduce(folder: string, account: ServerAccount | undefined): Promise<void> {
    const { megabytes, write } = this.#options;
    write(`pgconvoy demo: a parallel backup of a running PostgreSQL, in "${folder}" (removed at the end)\n`);
    if (account !== undefined) {
      write(`PostgreSQL runs as user "${account.name}" here, because it refuses to run as root\n`);
    }
    // the tables, their WAL, and the backup
    const needed = megabytes * MEGABYTE * 3 + EMPTY_CLUSTERS_BYTES;
    const { bavail, bsize } = await fs.statfs(folder);
    if (bavail * bsize >= needed) return;
    throw new Error(
      `the demo needs ${inMegabytes(needed)} in "${folder}", and there are ${inMegabytes(bavail * bsize)}: ` +
        'use a smaller --size-mb, or set TMPDIR to another directory',
    );
  }

  async #startServer(folder: string): Promise<EmbeddedServer> {
    return await this.#step('creating a cluster (initdb) and starting the server', async () => {
      const binaries = await embeddedBinaries();
      const server = await EmbeddedServer.create({ binaries, directory: path.join(folder, 'server') });
      try {
        await server.start();
      } catch (error) {
        await server[Symbol.asyncDispose]();
        throw error;
      }
      return [server, `PostgreSQL ${binaries.major} on port ${server.port}`];
    });
  }

  async #fill(server: EmbeddedServer, folder: string): Promise<string> {
    const { megabytes, signal } = this.#options;
    return await this.#step(`filling tables in two tablespaces with ${megabytes} MB`, async () => {
      await using sql = await openSql(server, signal);
      const directory = await server.makeDirectory(tablespaceOf(folder).from);
      await fillTables(sql, { megabytes, directory });
      return [await contentDigest(sql), undefined];
    });
  }

  async #serve(server: EmbeddedServer): Promise<ServeProcess> {
    const { signal, write } = this.#options;
    const command = shownCommand('pgconvoy', serveArguments(server));
    write(`\nadding the parallel backup commands to it (passwords are in PGPASSWORD)\n$ ${command}\n`);
    return await this.#step('starting it', async () => {
      const serve = await ServeProcess.start(server, { signal });
      return [serve, `listening on ${serve.host}:${serve.port}`];
    });
  }

  async #backup(
    server: EmbeddedServer,
    serve: ServeProcess,
    writer: LedgerWriter,
    folder: string,
  ): Promise<void> {
    const { signal, write } = this.#options;
    const { from, to } = tablespaceOf(folder);
    const target = ['-D', backupOf(folder), '-T', `${from}=${to}`];
    const connection = ['-h', serve.host, '-p', String(serve.port), '-U', server.user];
    const args = ['backup', ...target, ...connection, '-j', String(JOBS), '-c', 'fast', '-P', '-v'];
    const command = shownCommand('pgconvoy', args);
    write(`\ntaking the backup over ${JOBS} connections, while rows are being committed\n$ ${command}\n`);
    const committedBefore = writer.committed;
    const startedMs = performance.now();
    await runBackup(args, passwordEnvironment(server), signal);
    const seconds = secondsSince(startedMs);
    await writer.stop();
    write(
      `the backup took ${seconds}; ${writer.committed - committedBefore} rows were committed meanwhile\n\n`,
    );
  }

  async #check(origin: EmbeddedServer, { digest, writer }: Expectation, folder: string): Promise<void> {
    const { signal, write } = this.#options;
    const directory = backupOf(folder);
    const committed = writer.committedBy(await readEndLsn(directory));
    await using restored = await this.#step('starting a second server on the backup', async () => {
      const { binaries, password } = origin;
      const server = await EmbeddedServer.adopt({ binaries, dataDirectory: directory, password });
      await server.start();
      return [server, `recovered, on port ${server.port}`];
    });
    await using sql = await openSql(restored, signal);
    await this.#step('comparing the tables with the original', async () => {
      if ((await contentDigest(sql)) !== digest)
        throw new Error('the backup holds other rows than the original');
      return [undefined, 'the same rows'];
    });
    await this.#step('looking for the rows committed before the backup ended', async () => {
      const found = await countLedgerRows(sql, committed);
      if (found === committed) return [undefined, `all ${committed} are there`];
      throw new Error(
        `${committed} rows were committed before the backup ended, and it holds ${found} of them`,
      );
    });
    const tables = await this.#step('reading every page of every table, with its checksum', async () => {
      const count = await readAllTables(sql);
      return [count, `${count} tables`];
    });
    write(
      `\nthe backup is good: it started, it holds all ${committed} rows committed before it ended, and the page ` +
        `checksums of all ${tables} tables hold\n`,
    );
  }

  /** Runs one step of the story; `work` returns its result and what there is to say about it. */
  async #step<Result>(text: string, work: () => Promise<[Result, string | undefined]>): Promise<Result> {
    const { signal, write } = this.#options;
    signal.throwIfAborted();
    write(`${text} ... `);
    const startedMs = performance.now();
    try {
      const [result, remark] = await work();
      write(`${secondsSince(startedMs)}${remark === undefined ? '' : `, ${remark}`}\n`);
      return result;
    } catch (error) {
      write('\n');
      throw error;
    }
  }
}

async function openFolder(
  account: ServerAccount | undefined,
): Promise<AsyncDisposable & { readonly path: string }> {
  const folder = await fs.realpath(await temporaryDirectory(account, 0o711));
  return { path: folder, [Symbol.asyncDispose]: () => removeDirectory(folder) };
}

function backupOf(folder: string): string {
  return path.join(folder, 'backup');
}

/** Where the original's tablespace is, and where the backup's is to be. */
function tablespaceOf(folder: string): { readonly from: string; readonly to: string } {
  return { from: path.join(folder, 'tablespace'), to: path.join(folder, 'backup-tablespace') };
}

/** The LSN at which the backup ended, as its manifest says. */
async function readEndLsn(directory: string): Promise<Lsn> {
  const text = await fs.readFile(path.join(directory, MANIFEST_PATH), 'utf8');
  const manifest: { 'WAL-Ranges'?: { 'End-LSN'?: string }[] } = JSON.parse(text);
  const lsn = parseLsn(manifest['WAL-Ranges']?.[0]?.['End-LSN'] ?? '');
  if (lsn === undefined) throw new Error('the manifest of the backup does not say where it ends');
  return lsn;
}

function secondsSince(startedMs: number): string {
  return `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
}

function inMegabytes(bytes: number): string {
  return `${Math.floor(bytes / MEGABYTE)} MB`;
}
