/* `pgconvoy demo`, which is also `npm start`: the main job on a PostgreSQL that it brings along. */
import { Command } from 'commander';
import { ConvoyError } from '../errors.js';
import { parseInteger } from './option-values.js';

const DEFAULT_MEGABYTES = 200;
const MIN_MEGABYTES = 10;
const MAX_MEGABYTES = 1_000_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export function demoCommand(): Command {
  return new Command('demo')
    .description('take a parallel backup of an embedded PostgreSQL server, start it and check it')
    .option(
      '--size-mb <n>',
      'fill the tables with about this many megabytes',
      parseInteger('--size-mb', MIN_MEGABYTES, MAX_MEGABYTES),
      DEFAULT_MEGABYTES,
    )
    .allowExcessArguments(false)
    .action(runDemo);
}

async function runDemo({ sizeMb }: { readonly sizeMb: number }): Promise<void> {
  const controller = new AbortController();
  // Only the first counts: npm hands Ctrl-C on to a program that the terminal has sent it to already.
  const onSignal = (name: NodeJS.Signals): void =>
    controller.abort(new ConvoyError('cancelled', `interrupted by ${name}`));
  for (const name of SIGNALS) process.on(name, onSignal);
  try {
    const write = (text: string): void => void process.stdout.write(text);
    // loaded when it is asked for: a backup starts the sooner
    const { demo } = await import('../demo/demo.js');
    await demo({ megabytes: sizeMb, write, signal: controller.signal });
  } finally {
    for (const name of SIGNALS) process.off(name, onSignal);
  }
}
