/* Expectations were read off pg_basebackup 18, whose getopt_long takes these; its list of possibilities has its own options. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Command, Option } from 'commander';
import { expandLongOptions } from '../../src/cli/long-options.js';

const COMMAND = new Command('x')
  .option('-D, --pgdata <directory>')
  .option('-c, --checkpoint <how>')
  .option('-C, --create-slot')
  .option('-P, --progress [json]')
  .option('-v, --verbose')
  .option('-S, --slot <name>')
  .addOption(new Option('--no-slot'))
  .option('-N, --no-sync')
  .option('--max-rate <rate>')
  .option('--manifest-checksums <algorithm>')
  .version('1', '-V, --version');

describe('long options', () => {
  for (const [given, expected] of [
    ['--verb', '--verbose'],
    ['--check=fast --verb', '--checkpoint=fast --verbose'],
    ['--check fast', '--checkpoint fast'],
    ['--slot=a=b', '--slot=a=b'],
    ['--prog=json', '--progress=json'],
    ['--vers', '--version'],
    ['--he', '--help'],
    ['--no-sl', '--no-slot'],
    // one that is written out is itself, whatever begins with it
    ['--slot x', '--slot x'],
    // values are no options
    ['--pgd --verb', '--pgdata --verb'],
    ['-D --verb --verb', '-D --verb --verbose'],
    ['-vD --verb --verb', '-vD --verb --verbose'],
    ['-DD --verb', '-DD --verbose'],
    ['-v --verb', '-v --verbose'],
    ['-- --verb', '-- --verb'],
    // for commander to refuse
    ['--nonsense', '--nonsense'],
    ['--checkpoint', '--checkpoint'],
  ] as const) {
    test(given, () => {
      assert.equal(expandLongOptions(given.split(' '), COMMAND).join(' '), expected);
    });
  }

  for (const [given, message] of [
    ['--ma', "option '--ma' is ambiguous; possibilities: '--max-rate' '--manifest-checksums'"],
    ['--ma=5', "option '--ma=5' is ambiguous; possibilities: '--max-rate' '--manifest-checksums'"],
    ['--no-s', "option '--no-s' is ambiguous; possibilities: '--no-slot' '--no-sync'"],
    ['--verb=x', "option '--verbose' doesn't allow an argument"],
    ['--hel=x', "option '--help' doesn't allow an argument"],
  ] as const) {
    test(given, () => {
      assert.throws(() => expandLongOptions([given], COMMAND), { code: 'usage', message });
    });
  }
});
