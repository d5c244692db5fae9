/* `pgconvoy verify`: pg_verifybackup's options, resolved into VerifyOptions, and the exit status. */
import path from 'node:path';
import { Command, Option } from 'commander';
import { ConvoyError } from '../errors.js';
import type { VerifyEvents, VerifyOptions } from '../verify/verify-options.js';
import { printError, printWarning } from './messages.js';
import { canonical, defaultJobs, parseBackupFormat, parseJobs } from './option-values.js';
import { createProgressDisplay } from './progress-display.js';

interface VerifyFlags {
  readonly exitOnError?: boolean;
  readonly format?: 'plain' | 'tar';
  readonly ignore?: readonly string[];
  readonly jobs: number;
  readonly manifestPath?: string;
  readonly parseWal: boolean;
  readonly progress?: boolean;
  readonly pageChecksums?: boolean;
  readonly quiet?: boolean;
  readonly skipChecksums?: boolean;
  readonly walDirectory?: string;
  readonly walPath?: string;
}

export function verifyCommand(): Command {
  return (
    new Command('verify')
      .description('verify a backup against its manifest, and the WAL that it needs')
      .argument('[backupdir...]', 'the backup: a directory, or one tar file')
      .optionsGroup('Options:')
      .option('-e, --exit-on-error', 'exit immediately on error')
      .option('-F, --format <p|t>', 'backup format (plain, tar)', parseBackupFormat)
      .option(
        '-i, --ignore <relative_path>',
        'ignore indicated path',
        (text: string, all: readonly string[] | undefined) => [...(all ?? []), path.posix.normalize(text)],
      )
      .option('-j, --jobs <n>', 'use this many threads', parseJobs, defaultJobs())
      .option('-m, --manifest-path <path>', 'use specified path for manifest')
      .option('-n, --no-parse-wal', 'do not try to parse WAL files')
      .option('-P, --progress', 'show progress information')
      .option('--page-checksums', 'also verify the checksums of the pages of all relations')
      .option('-q, --quiet', 'do not print any output, except for errors')
      .option('-s, --skip-checksums', 'skip checksum verification')
      .option('-w, --wal-directory <path>', 'use specified path for WAL files')
      // what newer releases call it
      .addOption(new Option('--wal-path <path>').hideHelp())
      .action(runVerify)
  );
}

async function runVerify(places: readonly string[], flags: VerifyFlags): Promise<void> {
  const options = resolveOptions(places, flags);
  const display = flags.progress === true ? createProgressDisplay(process.stderr) : undefined;
  const events: VerifyEvents = {
    problem(message) {
      display?.clear();
      printError(message);
    },
    warning(message) {
      display?.clear();
      printWarning(message);
    },
    readingStarted: (totals, read) => display?.start(totals, read),
    readingEnded: () => display?.stop(),
  };
  // loaded when it is asked for: other commands start the sooner
  const { verify } = await import('../verify/verify.js');
  const { problems } = await verify(options, events);
  if (problems > 0) process.exitCode = 1;
  else if (flags.quiet !== true) process.stdout.write('backup successfully verified\n');
}

function resolveOptions([backup, excess]: readonly string[], flags: VerifyFlags): VerifyOptions {
  if (backup === undefined) throw new ConvoyError('usage', 'no backup directory specified');
  if (excess !== undefined) {
    throw new ConvoyError('usage', `too many command-line arguments (first is "${excess}")`);
  }
  if (flags.progress === true && flags.quiet === true) {
    throw new ConvoyError('usage', 'cannot specify both -P/--progress and -q/--quiet');
  }
  const { manifestPath, walDirectory = flags.walPath } = flags;
  return {
    backup: canonical(path.resolve(backup)),
    format: flags.format,
    manifest: manifestPath === undefined ? undefined : path.resolve(manifestPath),
    ignore: (flags.ignore ?? []).map((each) => each.replace(/\/+$/, '')),
    checkWal: flags.parseWal,
    walDirectory: walDirectory === undefined ? undefined : path.resolve(walDirectory),
    checkFiles: flags.skipChecksums !== true,
    checkPages: flags.pageChecksums === true,
    jobs: flags.jobs,
    stopAtFirst: flags.exitOnError === true,
  };
}
