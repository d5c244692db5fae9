/*
 * A backup's report in its two forms: lines for -v, and the JSON object of --report, whose fields README names.
 * Numbers that do not fit into a double are text in JSON.
 */
import type { BackupReport } from '../coordinator/backup-report.js';
import type { ConvoyError } from '../errors.js';
import { formatLsn } from '../lsn.js';
import { programVersion } from './program-version.js';

/** Taken down around the backup. */
export interface BackupRecord {
  readonly startedAt: Date;
  readonly endedAt: Date;
  readonly label: string;
  readonly warnings: readonly string[];
}

/** Without "pgconvoy: ", one line each. */
export function reportLines(report: BackupReport): string[] {
  const { source, serverVersion, timeline, copied, phases, workers, tablespaces } = report;
  const total = phases.reduce((sum, { seconds }) => sum + seconds, 0);
  const range = `${formatLsn(report.startLsn)} to ${formatLsn(report.stopLsn)} on timeline ${timeline}`;
  return [
    `server ${serverVersion} through source "${source}", write-ahead log from ${range}`,
    `${described(copied.files, copied.bytes, total)}, of which write-ahead log ${inMegabytes(report.walBytes)} MB`,
    ...phases.map(({ phase, seconds, bytes }) => {
      const moved = bytes === undefined ? '' : `, ${inMegabytes(bytes)} MB${rate(bytes, seconds)}`;
      return `phase ${phase}: ${seconds.toFixed(2)} s${moved}`;
    }),
    ...workers.map(({ worker, files, bytes, seconds, retries }) => {
      const repeated = retries === 0 ? '' : `, ${retries} repeated`;
      return `worker ${worker}: ${described(files, bytes, seconds)}${repeated}`;
    }),
    ...tablespaces.map(({ oid, location, files, bytes, seconds }) => {
      const which = oid === undefined ? 'data directory' : `tablespace ${oid} at "${location}"`;
      return `${which}: ${described(files, bytes, seconds)}`;
    }),
    `${report.vanishedFiles} files vanished, ${report.retries} tasks repeated`,
  ];
}

/** "bad_pages": complete as well, with damaged pages in it. */
export function completedReport(report: BackupReport, record: BackupRecord): object {
  const { copied, phases, workers, tablespaces } = report;
  return {
    status: report.hasBadPages ? 'bad_pages' : 'complete',
    ...commonFields(record),
    source: report.source,
    serverVersion: report.serverVersion,
    systemIdentifier: String(report.systemIdentifier),
    startLsn: formatLsn(report.startLsn),
    stopLsn: formatLsn(report.stopLsn),
    timeline: report.timeline,
    files: copied.files,
    bytes: copied.bytes,
    walBytes: report.walBytes,
    phases: phases.map((figures) => withRate(figures)),
    workers: workers.map((figures) => withRate(figures)),
    tablespaces: tablespaces.map((figures) => ({
      ...withRate(figures),
      oid: figures.oid ?? null,
      location: figures.location ?? null,
    })),
    vanishedFiles: report.vanishedFiles,
    retries: report.retries,
    hasBadPages: report.hasBadPages,
    badPageCount: report.badPageCount ?? null,
  };
}

export function failedReport({ code, message, hint }: ConvoyError, record: BackupRecord): object {
  return { status: 'failed', error: { code, message, hint: hint ?? null }, ...commonFields(record) };
}

function commonFields({ startedAt, endedAt, label, warnings }: BackupRecord): object {
  return {
    label,
    startedAt: startedAt.toISOString(),
    endedAt: endedAt.toISOString(),
    seconds: (endedAt.getTime() - startedAt.getTime()) / 1000,
    pgconvoyVersion: programVersion(),
    nodeVersion: process.versions.node,
    warnings,
  };
}

function withRate(figures: { readonly seconds: number; readonly bytes?: number }): object {
  const { seconds, bytes } = figures;
  if (bytes === undefined) return figures;
  return { ...figures, bytesPerSecond: seconds === 0 ? null : Math.round(bytes / seconds) };
}

function described(files: number, bytes: number, seconds: number): string {
  return `${files} files, ${inMegabytes(bytes)} MB in ${seconds.toFixed(2)} s${rate(bytes, seconds)}`;
}

function rate(bytes: number, seconds: number): string {
  return seconds === 0 ? '' : ` (${inMegabytes(bytes / seconds)} MB/s)`;
}

function inMegabytes(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1);
}
