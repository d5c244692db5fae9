/* The measurements as a table. */
import type { BenchCase } from './cases.js';
import type { Measured } from './measured-run.js';
import type { Usage } from './process-usage.js';

/** One run of one case. */
export interface BenchRun {
  readonly client: Measured;
  /** Of `pgconvoy serve` and its processes during the run. */
  readonly serve: Usage | undefined;
}

/** The runs of each case in the order of the rounds. */
export type BenchRuns = ReadonlyMap<BenchCase, readonly BenchRun[]>;

const COLUMNS = [
  'case',
  'median s',
  'min s',
  'max s',
  'ratio',
  'of minima',
  'client MB',
  'client CPU s',
  'serve MB',
  'serve CPU s',
];

/** A Markdown table that reads well as plain text. */
export function formatReport(runs: BenchRuns): string {
  const byName = new Map([...runs].map(([{ name }, own]) => [name, own]));
  const rows = [...runs].map(([{ name, against = name }, own]) => [
    name,
    ...formatRuns(own, byName.get(against) ?? []),
  ]);
  const widths = COLUMNS.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => pad(cell, column, widths[column] ?? 0)).join(' | ')} |`;
  const rule = widths.map((width, column) =>
    column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  );
  return [line(COLUMNS), line(rule), ...rows.map((row) => line(row))].join('\n');
}

function pad(cell: string, column: number, width: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}

function formatRuns(own: readonly BenchRun[], baseline: readonly BenchRun[]): string[] {
  const seconds = own.map((run) => run.client.seconds);
  // pair by pair: what slowed a whole round down is in both
  const ratios = own.map(
    (run, round) => run.client.seconds / (baseline[round]?.client.seconds ?? Number.NaN),
  );
  const baselineSeconds = baseline.map((run) => run.client.seconds);
  const serves = own.flatMap((run) => (run.serve === undefined ? [] : [run.serve]));
  const isServed = serves.length > 0;
  return [
    median(seconds).toFixed(2),
    Math.min(...seconds).toFixed(2),
    Math.max(...seconds).toFixed(2),
    median(ratios).toFixed(2),
    (Math.min(...seconds) / Math.min(...baselineSeconds)).toFixed(2),
    megabytes(Math.max(...own.map((run) => run.client.peakBytes))),
    median(own.map((run) => run.client.cpuSeconds)).toFixed(2),
    isServed ? megabytes(Math.max(...serves.map((usage) => usage.peakBytes))) : '-',
    isServed ? median(serves.map((usage) => usage.cpuSeconds)).toFixed(2) : '-',
  ];
}

function megabytes(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(0);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  const lower = sorted[Math.ceil(middle) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}
