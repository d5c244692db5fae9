/* `pgconvoy restore`: a backup becomes a data directory that is ready to start. */
import path from 'node:path';
import { Command, Option } from 'commander';
import { ConvoyError } from '../errors.js';
import { restore } from '../restore/restore.js';
import type { RestoreEvents, RestoreOptions } from '../restore/restore-options.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';
import { cancelOnSignals } from './cancel-on-signals.js';
import { printDetail, printError, printHint, printWarning } from './messages.js';
import {
  canonical,
  defaultJobs,
  parseJobs,
  parseTablespaceMapping,
  parseWalDirectory,
} from './option-values.js';
import { createProgressDisplay } from './progress-display.js';
import { addRecoveryOptions, resolveRecovery, type RecoveryFlags } from './recovery-options.js';

interface RestoreFlags extends RecoveryFlags {
  readonly pgdata?: string;
  readonly tablespaceMapping?: readonly TablespaceMapping[];
  readonly waldir?: string;
  readonly jobs: number;
  readonly skipChecksums?: boolean;
  readonly verify: boolean;
  readonly clean: boolean;
  readonly sync: boolean;
  readonly progress?: boolean;
  readonly verbose?: boolean;
}

export function restoreCommand(): Command {
  const command = new Command('restore')
    .description('restore a backup, plain or tar, to a data directory that is ready to start')
    .argument(
      '<backup>',
      'directory of the backup, a tar file that holds all of it, or "-": such a tar on standard input',
    )
    .optionsGroup('Options controlling the output:')
    .option('-D, --pgdata <directory>', 'restore to this directory, which must be empty or absent')
    .option(
      '-T, --tablespace-mapping <olddir=newdir>',
      'relocate tablespace in OLDDIR to NEWDIR',
      (text: string, all: readonly TablespaceMapping[] | undefined) => [
        ...(all ?? []),
        parseTablespaceMapping(text),
      ],
    )
    .option('--waldir <waldir>', 'location for the write-ahead log directory');
  return addRecoveryOptions(command)
    .optionsGroup('General options:')
    .addOption(
      new Option('-j, --jobs <n>', 'restore with this many threads')
        .argParser(parseJobs)
        .default(defaultJobs()),
    )
    .option('-s, --skip-checksums', 'verify names and sizes against the manifest, no checksums')
    .option('--no-verify', 'verify nothing; for a backup without a manifest')
    .option('-n, --no-clean', 'do not clean up after errors')
    .option('-N, --no-sync', 'do not wait for changes to be written safely to disk')
    .option('-P, --progress', 'show progress information')
    .option('-v, --verbose', 'output verbose messages')
    .allowExcessArguments(false)
    .action(runRestore);
}

async function runRestore(backup: string, flags: RestoreFlags): Promise<void> {
  const options = resolveOptions(backup, flags);
  process.umask(0o077);
  const display = flags.progress === true ? createProgressDisplay(process.stderr) : undefined;
  const shown =
    (print: (message: string) => void) =>
    (message: string): void => {
      display?.clear();
      print(message);
    };
  const events: RestoreEvents = {
    notice: shown(printDetail),
    detail: flags.verbose === true ? shown(printDetail) : () => {},
    warning: shown(printWarning),
    problem: shown(printError),
    copyStarted: (totals, read) => display?.start(totals, read),
    copyEnded: () => display?.stop(),
  };
  const { signal, dispose } = cancelOnSignals();
  try {
    const { directories } = await restore(options, events, signal);
    if (process.getuid?.() === 0) {
      const all = directories.map(quoted).join(' ');
      printHint(
        `PostgreSQL refuses to run as root: give the files to its own account first, "chown -R postgres ${all}"`,
      );
    }
    process.stdout.write(`pg_ctl -D ${quoted(options.directory)} start\n`);
  } finally {
    dispose();
  }
}

function resolveOptions(backup: string, flags: RestoreFlags): RestoreOptions {
  const { pgdata, tablespaceMapping = [], waldir, skipChecksums } = flags;
  if (pgdata === undefined || pgdata === '') {
    throw new ConvoyError('usage', 'no data directory specified', { hint: 'give it with -D' });
  }
  if (!flags.verify && skipChecksums === true) {
    throw new ConvoyError('usage', '--no-verify and --skip-checksums are incompatible options');
  }
  const verified = skipChecksums === true ? 'sizes' : 'checksums';
  return {
    backup:
      backup === '-'
        ? { kind: 'stream', bytes: process.stdin }
        : { kind: 'path', path: canonical(path.resolve(backup)) },
    directory: canonical(path.resolve(pgdata)),
    tablespaceMappings: tablespaceMapping,
    walDirectory: waldir === undefined ? undefined : parseWalDirectory(waldir),
    verify: flags.verify ? verified : 'nothing',
    recovery: resolveRecovery(flags),
    jobs: flags.jobs,
    sync: flags.sync,
    keepOnFailure: !flags.clean,
  };
}

/** As a shell takes it for one word. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
