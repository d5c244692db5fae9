/* Where a bench ran: its numbers mean nothing without it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import type { ServerConnection } from '../src/wire/connection.js';

/** Lines of "name: value". */
export async function describeEnvironment(
  sql: ServerConnection,
  programs: { readonly targetDirectory: string; readonly pgBasebackup: string },
): Promise<string[]> {
  const [row] = await sql.query(
    `select current_setting('server_version'), current_setting('data_checksums'),
       pg_size_pretty(sum(pg_database_size(oid))) from pg_database`,
  );
  const version = execFileSync(programs.pgBasebackup, ['--version'], { encoding: 'utf8' }).trim();
  return [
    `processor: ${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores`,
    `memory: ${(totalmem() / 1024 ** 3).toFixed(1)} GiB`,
    `kernel: ${type()} ${release()}`,
    `node: ${process.version}`,
    `server: PostgreSQL ${row?.[0]}, databases of ${row?.[2]}, page checksums ${row?.[1]}, fsync off`,
    `compared with: ${version}`,
    `file system of the target: ${fileSystemOf(programs.targetDirectory)}`,
    `load average at the start: ${loadavg()
      .map((load) => load.toFixed(2))
      .join(' ')}`,
  ];
}

/** Type and device, from the longest mount point that the directory is below (proc(5), mountinfo). */
function fileSystemOf(directory: string): string {
  let best = { point: '', text: 'unknown' };
  for (const line of mountLines()) {
    const [before = '', after = ''] = line.split(' - ');
    const point = before.split(' ')[4] ?? '';
    const isBelow = point === '/' || directory === point || directory.startsWith(`${point}/`);
    if (!isBelow || point.length < best.point.length) continue;
    const [kind, device] = after.split(' ');
    best = { point, text: `${kind} on ${device}` };
  }
  return best.text;
}

function mountLines(): string[] {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  } catch {
    return [];
  }
}
