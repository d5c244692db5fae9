#!/usr/bin/env node
/*
 * The `pgconvoy` binary: finds the command, and turns whatever it throws into one error line, a hint, and exit
 * status 1, as PostgreSQL's own programs do.
 */
import { Command, CommanderError } from 'commander';
import { asConvoyError } from '../errors.js';
import { HELP_STYLE } from './help-style.js';
import { expandLongOptions } from './long-options.js';
import { printError, printHint } from './messages.js';
import { programVersion } from './program-version.js';

/** Loaded when they are asked for: what one command needs, another need not wait for. */
const COMMANDS = new Map<string, () => Promise<Command>>([
  ['backup', async () => (await import('./backup.js')).backupCommand()],
  ['check', async () => (await import('./check.js')).checkCommand()],
  ['restore', async () => (await import('./restore.js')).restoreCommand()],
  ['verify', async () => (await import('./verify.js')).verifyCommand()],
  ['serve', async () => (await import('./serve.js')).serveCommand()],
  ['demo', async () => (await import('./demo.js')).demoCommand()],
]);

/** All commands where none of them is named: the help lists them. */
async function buildProgram(): Promise<Command> {
  const program = new Command('pgconvoy').description(
    'parallel physical backups of PostgreSQL over its own protocol',
  );
  const named = COMMANDS.get(process.argv[2] ?? '');
  const wanted = named === undefined ? [...COMMANDS.values()] : [named];
  for (const command of await Promise.all(wanted.map((load) => load()))) program.addCommand(command);
  for (const command of [program, ...program.commands]) {
    command
      .optionsGroup(command === program ? 'Options:' : 'General options:')
      .version(`pgconvoy ${programVersion()}`, '-V, --version', 'output version information, then exit')
      .usage(command === program ? 'COMMAND [OPTION]...' : usageOf(command))
      .configureHelp(HELP_STYLE)
      // -Pv is -P -v
      .combineFlagAndOptionalValue(false)
      .helpOption('-?, --help', 'show this help, then exit')
      .exitOverride()
      .configureOutput({ outputError: () => {} });
  }
  return program.helpCommand(false);
}

function usageOf(command: Command): string {
  const names = command.registeredArguments.map((argument) => argument.name().toUpperCase());
  return ['[OPTION]...', ...names].join(' ');
}

async function main(): Promise<number> {
  const program = await buildProgram();
  try {
    await program.parseAsync(commandLine(program));
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return reportUsage(error, program);
    const failure = asConvoyError(error, 'worker_failed');
    printError(failure.message);
    if (failure.hint !== undefined) printHint(failure.hint);
    if (failure.code === 'usage') printHint(helpHint(program));
    return 1;
  }
}

/** process.argv, with the long options of the command written out. */
function commandLine(program: Command): string[] {
  const command = commandOf(program);
  if (command === undefined) return process.argv;
  return [...process.argv.slice(0, 3), ...expandLongOptions(process.argv.slice(3), command)];
}

function reportUsage(error: CommanderError, program: Command): number {
  if (error.exitCode === 0) return 0;
  // "(outputHelp)": no command was given and the help has been shown
  if (error.code !== 'commander.help') {
    printError(usageMessage(error, program));
    printHint(helpHint(program));
  }
  return 1;
}

/** What is wrong with the command line, in the words of getopt_long and PostgreSQL's programs. */
function usageMessage({ code, message }: CommanderError, program: Command): string {
  const [, named = ''] = /'([^']*)'/.exec(message) ?? [];
  switch (code) {
    case 'commander.unknownOption':
      return named.startsWith('--')
        ? `unrecognized option '${named}'`
        : `invalid option -- '${named.slice(1)}'`;
    case 'commander.optionMissingArgument':
      return `option '${named.replace(/ .*$/, '').replace(/,$/, '')}' requires an argument`;
    case 'commander.excessArguments':
      return `too many command-line arguments (first is "${commandOf(program)?.args[0] ?? ''}")`;
    default:
      return message.replace(/^error: /, '');
  }
}

function commandOf(program: Command): Command | undefined {
  return program.commands.find((command) => command.name() === process.argv[2]);
}

function helpHint(program: Command): string {
  const name = commandOf(program)?.name();
  return `try "${['pgconvoy', name, '--help'].filter((word) => word !== undefined).join(' ')}" for more information`;
}

process.exitCode = await main();
