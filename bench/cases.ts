/*
 * What is compared: each case is one value, run in this order in every round. A case without `against` is what the
 * cases that name it are measured against.
 */
export interface BenchCase {
  readonly name: string;
  /**
   * Takes a backup; or verifies one that was taken beforehand, `verify` being `pgconvoy verify`; or restores one in tar
   * format, `restore` being `pgconvoy restore`, and `tar -x` GNU tar with pg_verifybackup after it.
   */
  readonly program: 'pg_basebackup' | 'pgconvoy' | 'pg_verifybackup' | 'verify' | 'tar -x' | 'restore';
  /**
   * Which port it connects to: the stock server's, that of `pgconvoy serve` beside it, or that of a proxy which limits every
   * connection to the server to 50 MB/s.
   */
  readonly through: 'server' | 'serve' | 'link';
  /** What is done with the backup: written to a directory and verified, or thrown away. */
  readonly keeps: boolean;
  /** Besides -D, -h, -p and -U, or besides the backup. */
  readonly arguments: readonly string[];
  /** Name of the case that it is measured against. */
  readonly against?: string;
  /** Left out unless it is named. */
  readonly onlyWhenNamed?: boolean;
}

const BASELINE = 'pg_basebackup';
const SYNCED_BASELINE = 'pg_basebackup, synced';
const DISCARDED_BASELINE = 'pg_basebackup, discarded';
const VERIFY_BASELINE = 'pg_verifybackup';
const RESTORE_BASELINE = 'tar -x, pg_verifybackup';
const LINK_BASELINE = 'sql over a link of 50 MB/s, -j 1';

/** Each at its default level, which is the same in both programs. */
const ARCHIVE_METHODS = ['none', 'gzip', 'lz4', 'zstd'] as const;

const SYNCED = ['-X', 'fetch', '-c', 'fast'];
const KEPT = [...SYNCED, '-N'];
const DISCARDED = ['-t', 'blackhole', '-X', 'none', '-c', 'fast', '-N'];

/** Tar archives, compressed on the client by this method. */
function archiveCases(method: (typeof ARCHIVE_METHODS)[number]): BenchCase[] {
  const baseline = `pg_basebackup, tar, ${method}`;
  const format = ['-Ft', '-Z', method];
  const common = { keeps: true, onlyWhenNamed: true } as const;
  const ours = (name: string, source: string, through: BenchCase['through']): BenchCase => ({
    ...common,
    name: `${name}, tar, ${method}, -j 2`,
    program: 'pgconvoy',
    through,
    arguments: [`--source=${source}`, ...KEPT, ...format, '-j', '2'],
    against: baseline,
  });
  return [
    {
      ...common,
      name: baseline,
      program: 'pg_basebackup',
      through: 'server',
      arguments: [...format, '-X', 'fetch', '-c', 'fast', '--no-sync'],
    },
    ours('sql', 'sql', 'server'),
    ours('serve', 'walsender', 'serve'),
  ];
}

export const CASES: readonly BenchCase[] = [
  {
    name: BASELINE,
    program: 'pg_basebackup',
    through: 'server',
    keeps: true,
    arguments: ['-Fp', '-X', 'fetch', '-c', 'fast', '--no-sync'],
  },
  ...[1, 2, 4].map((jobs): BenchCase => ({
    name: `serve, -j ${jobs}`,
    program: 'pgconvoy',
    through: 'serve',
    keeps: true,
    arguments: ['--source=walsender', ...KEPT, '-j', String(jobs)],
    against: BASELINE,
  })),
  ...[1, 2, 4].map((jobs): BenchCase => ({
    name: `sql, -j ${jobs}`,
    program: 'pgconvoy',
    through: 'server',
    keeps: true,
    arguments: ['--source=sql', ...KEPT, '-j', String(jobs)],
    against: BASELINE,
  })),
  {
    name: SYNCED_BASELINE,
    program: 'pg_basebackup',
    through: 'server',
    keeps: true,
    arguments: ['-Fp', ...SYNCED],
  },
  {
    name: 'serve, synced, -j 2',
    program: 'pgconvoy',
    through: 'serve',
    keeps: true,
    arguments: ['--source=walsender', ...SYNCED, '-j', '2'],
    against: SYNCED_BASELINE,
  },
  {
    name: 'sql, synced, -j 2',
    program: 'pgconvoy',
    through: 'server',
    keeps: true,
    arguments: ['--source=sql', ...SYNCED, '-j', '2'],
    against: SYNCED_BASELINE,
  },
  {
    name: DISCARDED_BASELINE,
    program: 'pg_basebackup',
    through: 'server',
    keeps: false,
    arguments: ['-Ft', '-D', '-', '-X', 'none', '-c', 'fast'],
  },
  {
    name: 'sql, discarded, -j 2',
    program: 'pgconvoy',
    through: 'server',
    keeps: false,
    arguments: ['--source=sql', ...DISCARDED, '-j', '2'],
    against: DISCARDED_BASELINE,
  },
  {
    name: 'serve, discarded, -j 2',
    program: 'pgconvoy',
    through: 'serve',
    keeps: false,
    arguments: ['--source=walsender', ...DISCARDED, '-j', '2'],
    against: DISCARDED_BASELINE,
  },
  verifyCase(VERIFY_BASELINE, 'pg_verifybackup', []),
  ...[1, 2].map((jobs): BenchCase => ({
    ...verifyCase(`verify, -j ${jobs}`, 'verify', ['-j', String(jobs)]),
    against: VERIFY_BASELINE,
  })),
  { name: RESTORE_BASELINE, program: 'tar -x', through: 'server', keeps: true, arguments: [] },
  ...[1, 2].map((jobs): BenchCase => ({
    name: `restore of a tar, -j ${jobs}`,
    program: 'restore',
    through: 'server',
    keeps: true,
    arguments: ['-N', '-j', String(jobs)],
    against: RESTORE_BASELINE,
  })),
  ...ARCHIVE_METHODS.flatMap(archiveCases),
  {
    name: LINK_BASELINE,
    program: 'pgconvoy',
    through: 'link',
    onlyWhenNamed: true,
    keeps: false,
    arguments: ['--source=sql', ...DISCARDED, '-j', '1'],
  },
  {
    name: 'sql over a link of 50 MB/s, -j 8',
    program: 'pgconvoy',
    through: 'link',
    onlyWhenNamed: true,
    keeps: false,
    arguments: ['--source=sql', ...DISCARDED, '-j', '8'],
    against: LINK_BASELINE,
  },
];

function verifyCase(name: string, program: 'pg_verifybackup' | 'verify', args: readonly string[]): BenchCase {
  return { name, program, through: 'server', keeps: false, arguments: args };
}

/** Whether it needs a backup that was taken beforehand. */
export function isOfFinishedBackup({ program }: BenchCase): boolean {
  return program === 'pg_verifybackup' || program === 'verify';
}

/** Whether it needs a backup in tar format that was taken beforehand. */
export function isOfFinishedTar({ program }: BenchCase): boolean {
  return program === 'tar -x' || program === 'restore';
}

/** The cases whose name holds one of the texts, and what they are measured against; without a text all that need not be named. */
export function selectCases(texts: readonly string[]): readonly BenchCase[] {
  const wanted =
    texts.length === 0
      ? CASES.filter((one) => one.onlyWhenNamed !== true)
      : CASES.filter((one) => texts.some((text) => one.name.includes(text)));
  const names = new Set(wanted.flatMap((one) => [one.name, one.against ?? one.name]));
  return CASES.filter((one) => names.has(one.name));
}
