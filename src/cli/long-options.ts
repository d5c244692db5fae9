/*
 * Long options cut short, as getopt_long takes them: `--verb` for --verbose, as long as no other begins with it. Expanded
 * before commander sees the command line, which wants whole names. Called by main.ts.
 */
import type { Command, Option } from 'commander';
import { ConvoyError } from '../errors.js';

const HELP = '--help';

type Arity = Pick<Option, 'required' | 'optional'>;

/**
 * @param args those after the command's name
 * @throws ConvoyError `usage` for an abbreviation of several options, or a value that an option does not take
 */
export function expandLongOptions(args: readonly string[], { options }: Command): string[] {
  const byLong = new Map<string, Arity>(options.map((option) => [option.long ?? '', option]));
  byLong.set(HELP, { required: false, optional: false });
  const expanded: string[] = [];
  for (let at = 0; at < args.length; at += 1) {
    const arg = args[at] ?? '';
    if (arg === '--') return [...expanded, ...args.slice(at)];
    const [name = ''] = arg.split('=', 1);
    const long = arg.startsWith('--') ? resolve(name, arg, [...byLong.keys()]) : undefined;
    expanded.push(long === undefined ? arg : long + arg.slice(name.length));
    const { required = false, optional = false } = byLong.get(long ?? '') ?? {};
    if (long !== undefined && arg !== name && !required && !optional) {
      throw new ConvoyError('usage', `option '${long}' doesn't allow an argument`);
    }
    // the value is no option, whatever it looks like
    const takesNext = long === undefined ? endsWithValueless(arg, options) : required && arg === name;
    const value = args[at + 1];
    if (!takesNext || value === undefined) continue;
    expanded.push(value);
    at += 1;
  }
  return expanded;
}

/** @returns undefined where it is no option's name, which commander says */
function resolve(name: string, arg: string, known: readonly string[]): string | undefined {
  if (known.includes(name)) return name;
  const possible = known.filter((long) => long.startsWith(name));
  if (possible.length <= 1) return possible[0];
  const names = possible.map((long) => `'${long}'`).join(' ');
  throw new ConvoyError('usage', `option '${arg}' is ambiguous; possibilities: ${names}`);
}

/** Whether the last of these one-letter options still needs its value: "-vD", but not "-D/backup". */
function endsWithValueless(arg: string, options: readonly Option[]): boolean {
  if (!/^-[^-]/.test(arg)) return false;
  const letters = Array.from(arg.slice(1));
  const first = letters.findIndex(
    (letter) => options.find(({ short }) => short === `-${letter}`)?.required === true,
  );
  return first >= 0 && first === letters.length - 1;
}
