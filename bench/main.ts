/*
 * `npm run bench`: pgconvoy against pg_basebackup, on one server, in alternating runs. Ratios are taken pair by pair
 * within a round, so that a load that comes and goes weighs on both. One round before them, not counted, warms the
 * page cache and has every case's result checked by pg_verifybackup.
 */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { EmbeddedServer } from '../src/demo/embedded-server.js';
import { removeDirectory } from '../src/demo/left-at-exit.js';
import { passwordEnvironment, PROGRAM_FILE } from '../src/demo/own-program.js';
import { ServeProcess } from '../src/demo/serve-process.js';
import { serverAccount, temporaryDirectory } from '../src/demo/server-account.js';
import { openSql } from '../src/demo/server-sql.js';
import { missingTool, tool } from '../test/support/tools.js';
import { startBenchServer } from './bench-cluster.js';
import { isOfFinishedBackup, isOfFinishedTar, selectCases, type BenchCase } from './cases.js';
import { waitUntilIdle } from './idle-machine.js';
import { LimitedLink } from './limited-link.js';
import { describeEnvironment } from './environment.js';
import { runMeasured, type Command } from './measured-run.js';
import { readTreeUsage, resetTreePeaks } from './process-usage.js';
import { formatReport, type BenchRun } from './report.js';

const USAGE = `usage: npm run bench -- [--size-gb N] [--files N] [--rounds N] [--cases TEXT]... [--profile DIR]
  --size-gb N    size of the cluster (default: 2)
  --files N      small files beside the tables (default: 0)
  --rounds N     runs of every case (default: 5)
  --cases TEXT   only the cases whose name holds TEXT, and what they are measured against (default: all but archives and the link)
  --profile DIR  have node write CPU profiles of serve and backup to DIR; times mean little then
  TMPDIR         says where the cluster and the backups are
`;

interface BenchOptions {
  readonly gigabytes: number;
  /** Small files beside the tables. */
  readonly files: number;
  readonly rounds: number;
  readonly cases: readonly BenchCase[];
  readonly nodeArguments: readonly string[];
}

function parseOptions(): BenchOptions {
  const { values } = parseArgs({
    options: {
      'size-gb': { type: 'string', default: '2' },
      files: { type: 'string', default: '0' },
      rounds: { type: 'string', default: '5' },
      cases: { type: 'string', multiple: true, default: [] },
      profile: { type: 'string' },
    },
  });
  const gigabytes = Number(values['size-gb']);
  const rounds = Number(values.rounds);
  const files = Number(values.files);
  if (!Number.isInteger(files) || files < 0) throw new Error('--files must be a whole number');
  if (!(gigabytes > 0)) throw new Error('--size-gb must be a number above zero');
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be a whole number above zero');
  const { profile } = values;
  const nodeArguments =
    profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${path.resolve(profile)}`];
  return { gigabytes, files, rounds, cases: selectCases(values.cases), nodeArguments };
}

const LINK_BYTES_PER_SECOND = 50_000_000;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function requiredTool(name: string): string {
  const found = tool(name);
  if (found === undefined) throw new Error(missingTool(name));
  return found;
}

/** What the cases connect to. */
interface BenchServers {
  readonly server: EmbeddedServer;
  readonly serve: ServeProcess;
  readonly link: LimitedLink;
}

/** What every run of every case needs. */
class Bench {
  readonly #options: BenchOptions;
  readonly #server: EmbeddedServer;
  readonly #serve: ServeProcess;
  readonly #link: LimitedLink;
  readonly #target: string;
  #discarded = 0;

  constructor(options: BenchOptions, { server, serve, link }: BenchServers, target: string) {
    this.#options = options;
    this.#server = server;
    this.#serve = serve;
    this.#link = link;
    this.#target = target;
  }

  /** One measured run; `inspect` looks at the result before it is discarded. */
  async run(one: BenchCase, inspect?: (target: string) => Promise<void>): Promise<BenchRun> {
    const isServed = one.through === 'serve';
    resetTreePeaks(this.#serve.pid);
    const before = readTreeUsage(this.#serve.pid);
    const client = await runMeasured(this.#command(one));
    const after = readTreeUsage(this.#serve.pid);
    if (one.keeps) {
      await inspect?.(this.#target);
      await this.#discardTarget();
    }
    const serve = { peakBytes: after.peakBytes, cpuSeconds: after.cpuSeconds - before.cpuSeconds };
    return { client, serve: isServed ? serve : undefined };
  }

  /**
   * Gives back the space and leaves the names until the end: ext4 searches long for inodes when many have just been
   * freed (recently_deleted in its ialloc.c), which a backup does not meet in life.
   */
  async #discardTarget(): Promise<void> {
    this.#discarded += 1;
    const old = `${this.#target}.${this.#discarded}`;
    await fs.rename(this.#target, old);
    for (const entry of await fs.readdir(old, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) await fs.truncate(path.join(entry.parentPath, entry.name));
    }
    // what is left to be written is not the next run's
    await promisify(execFile)('sync');
    await waitUntilIdle();
  }

  /** The backup that is verified (`p`), or restored (`t`). */
  async takeFinishedBackup(format: 'p' | 't'): Promise<void> {
    const { host, port, user } = this.#server;
    const target = format === 'p' ? this.#finished : this.#finishedTar;
    const args = ['-D', target, '-h', host, '-p', String(port), '-U', user];
    await promisify(execFile)(
      requiredTool('pg_basebackup'),
      [...args, `-F${format}`, '-X', 'fetch', '-c', 'fast', '--no-sync'],
      { env: passwordEnvironment(this.#server) },
    );
  }

  get #finished(): string {
    return `${this.#target}.finished`;
  }

  get #finishedTar(): string {
    return `${this.#target}.finished-tar`;
  }

  #command(one: BenchCase): Command {
    if (isOfFinishedBackup(one)) return this.#verification(one);
    if (isOfFinishedTar(one)) return this.#restore(one);
    const { host, port } = { server: this.#server, serve: this.#serve, link: this.#link }[one.through];
    const connection = ['-h', host, '-p', String(port), '-U', this.#server.user];
    const target = one.keeps ? ['-D', this.#target] : [];
    const args = [...target, ...connection, ...one.arguments];
    const env = passwordEnvironment(this.#server);
    if (one.program === 'pg_basebackup') return { file: requiredTool('pg_basebackup'), args, env };
    return {
      file: process.execPath,
      args: [...this.#options.nodeArguments, PROGRAM_FILE, 'backup', ...args],
      env,
    };
  }

  #verification(one: BenchCase): Command {
    const args = [...one.arguments, this.#finished];
    const { env } = process;
    if (one.program === 'pg_verifybackup') return { file: requiredTool('pg_verifybackup'), args, env };
    return {
      file: process.execPath,
      args: [...this.#options.nodeArguments, PROGRAM_FILE, 'verify', ...args],
      env,
    };
  }

  #restore(one: BenchCase): Command {
    const { env } = process;
    if (one.program === 'tar -x') {
      const script =
        'mkdir "$1" && tar -xf "$2/base.tar" -C "$1" && cp "$2/backup_manifest" "$1" && "$0" -q "$1"';
      const tools = [requiredTool('pg_verifybackup'), this.#target, this.#finishedTar];
      return { file: '/bin/sh', args: ['-c', script, ...tools], env };
    }
    const args = ['restore', this.#finishedTar, '-D', this.#target, ...one.arguments];
    return { file: process.execPath, args: [...this.#options.nodeArguments, PROGRAM_FILE, ...args], env };
  }
}

function rotate<Item>(items: readonly Item[], by: number): Item[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

/** Archives are unpacked by GNU tar before. */
async function verify(target: string): Promise<void> {
  const archive = (await fs.readdir(target)).find((name) => name.startsWith('base.tar'));
  if (archive === undefined) {
    await promisify(execFile)(requiredTool('pg_verifybackup'), [target]);
    return;
  }
  const unpacked = `${target}.unpacked`;
  await fs.mkdir(unpacked);
  // not every tar knows lz4 by its name
  const program = archive.endsWith('.lz4') ? '--use-compress-program=lz4' : '--auto-compress';
  await promisify(execFile)('tar', [program, '-x', '-f', path.join(target, archive), '-C', unpacked]);
  await fs.copyFile(path.join(target, 'backup_manifest'), path.join(unpacked, 'backup_manifest'));
  await promisify(execFile)(requiredTool('pg_verifybackup'), [unpacked]);
  await fs.rm(unpacked, { recursive: true });
}

async function main(options: BenchOptions): Promise<void> {
  const { gigabytes, files, rounds, cases, nodeArguments } = options;
  const pgBasebackup = requiredTool('pg_basebackup');
  const directory = await fs.realpath(await temporaryDirectory(await serverAccount(), 0o711));
  try {
    print(`filling a cluster of ${gigabytes} GB and ${files} small files beside ...`);
    await using server = await startBenchServer(directory, options);
    await using sql = await openSql(server);
    const environment = await describeEnvironment(sql, { targetDirectory: directory, pgBasebackup });
    print(`\n${environment.map((line) => `- ${line}`).join('\n')}\n`);
    await using serve = await ServeProcess.start(server, { nodeArguments });
    await using link = await LimitedLink.open(server, LINK_BYTES_PER_SECOND);
    const bench = new Bench(options, { server, serve, link }, path.join(directory, 'backup'));
    if (cases.some(isOfFinishedBackup)) await bench.takeFinishedBackup('p');
    if (cases.some(isOfFinishedTar)) await bench.takeFinishedBackup('t');
    for (const one of cases) {
      const { client } = await bench.run(one, verify);
      const verdict = one.keeps ? ', pg_verifybackup found it good' : '';
      print(`not counted: ${one.name}: ${client.seconds.toFixed(2)} s${verdict}`);
    }
    const runs = new Map(cases.map((one) => [one, [] as BenchRun[]]));
    for (let round = 1; round <= rounds; round += 1) {
      const times: string[] = [];
      // a case pays for what the one before has left to the disk: every case follows every other
      for (const one of rotate(cases, round)) {
        const run = await bench.run(one);
        runs.get(one)?.push(run);
        times.push(`${one.name}: ${run.client.seconds.toFixed(2)} s`);
      }
      print(`round ${round}: ${times.join('; ')}`);
    }
    print(`\n${formatReport(runs)}\n`);
    print(
      'ratio: to the case that it is measured against, in the same round, median; of minima: of the shortest times, which other load',
    );
    print('disturbs least; MB: highest peak of resident memory, what processes share counted in each');
  } finally {
    await removeDirectory(directory);
  }
}

try {
  await main(parseOptions());
} catch (error) {
  const isUsage = error instanceof TypeError && 'code' in error;
  process.stderr.write(
    `${error instanceof Error ? error.message : String(error)}\n${isUsage ? `\n${USAGE}` : ''}`,
  );
  process.exitCode = 1;
}
