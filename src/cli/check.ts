/* `pgconvoy check`: each need of a backup over plain SQL, ok or not, with what mends it; exit status 1 when one would fail. */
import path from 'node:path';
import { Command, Option } from 'commander';
import { checkServer, printableGrants, type CheckOptions } from '../coordinator/check.js';
import { areMet, type Requirement } from '../source/requirement.js';
import type { TablespaceMapping } from '../target/tablespace-mapping.js';
import { ConvoyError } from '../errors.js';
import { cancelOnSignals } from './cancel-on-signals.js';
import { addConnectionOptions, connectionFrom, type ConnectionFlags } from './connection-options.js';
import { printWarning } from './messages.js';
import {
  canonical,
  defaultJobs,
  parseJobs,
  parseTablespaceMapping,
  parseWalMethod,
  type WalMethod,
} from './option-values.js';

interface CheckFlags extends ConnectionFlags {
  readonly pgdata?: string;
  readonly tablespaceMapping?: readonly TablespaceMapping[];
  readonly jobs: number;
  readonly walMethod: WalMethod;
  readonly printGrants?: string;
}

export function checkCommand(): Command {
  const command = new Command('check')
    .description('tell whether a stock server can be backed up over plain SQL, and what is missing')
    .optionsGroup('General options:')
    .option('-D, --pgdata <directory>', 'also check that a backup would fit into directory')
    .option(
      '-T, --tablespace-mapping <olddir=newdir>',
      'as the backup will: relocate tablespace in OLDDIR to NEWDIR',
      (text: string, all: readonly TablespaceMapping[] | undefined) => [
        ...(all ?? []),
        parseTablespaceMapping(text),
      ],
    )
    .option('-j, --jobs <n>', 'connections that the backup will use', parseJobs, defaultJobs())
    .addOption(
      new Option('-X, --wal-method <none|fetch|stream>', 'how the backup will include required WAL files')
        .argParser(parseWalMethod)
        .default('stream'),
    )
    .option('--print-grants <role>', 'print the SQL that lets role take backups of this server, then exit')
    .allowExcessArguments(false)
    .action(runCheck);
  return addConnectionOptions(command);
}

async function runCheck(flags: CheckFlags): Promise<void> {
  const { connection, askPassword } = await connectionFrom(flags);
  const { signal, dispose } = cancelOnSignals();
  const { jobs, pgdata, tablespaceMapping: tablespaceMappings = [] } = flags;
  const target =
    pgdata === undefined ? undefined : { directory: canonical(path.resolve(pgdata)), tablespaceMappings };
  // as a backup does by default, which makes itself a slot
  const wal = flags.walMethod === 'stream' ? 'stream_with_new_slot' : flags.walMethod;
  const options: CheckOptions = { connection, askPassword, jobs, wal, target, warn: printWarning, signal };
  try {
    if (flags.printGrants === '')
      throw new ConvoyError('usage', 'option --print-grants needs the name of a role');
    if (flags.printGrants !== undefined) {
      process.stdout.write(await printableGrants(options, flags.printGrants));
      return;
    }
    const requirements = await checkServer(options);
    process.stdout.write(requirements.map(describeRequirement).join(''));
    if (!areMet(requirements)) process.exitCode = 1;
  } finally {
    dispose();
  }
}

/** `not ok   function pg_read_binary_file: permission denied ...`, the remedy on a line of its own. */
export function describeRequirement({ name, isMet, isNeeded, finding, remedy }: Requirement): string {
  const verdict = isMet ? 'ok' : isNeeded ? 'not ok' : 'no';
  const mend = isMet || remedy === undefined ? '' : `         ${remedy}\n`;
  return `${verdict.padEnd(8)} ${name}: ${finding}\n${mend}`;
}
