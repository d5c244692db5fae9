/*
 * `--help` in the form of PostgreSQL's programs: values after an equals sign, descriptions in one column, and below
 * the option where that is too long for it. Given to commander by main.ts, for every command.
 */
import type { HelpConfiguration } from 'commander';

/** Columns of an option before its description begins; two more come on either side. */
const TERM_COLUMNS = 21;
const INDENT = '  ';
const DESCRIPTION_INDENT = ' '.repeat(INDENT.length + TERM_COLUMNS + 2);
const DEFAULT_COLUMNS = 80;

export const HELP_STYLE: HelpConfiguration = {
  padWidth: () => TERM_COLUMNS,
  optionTerm: ({ flags }) => {
    const term = flags
      .replace(/ <(.*)>$/, (_, value: string) => `=${valueName(value)}`)
      .replace(/ \[(.*)\]$/, (_, value: string) => `[=${valueName(value)}]`);
    return term.startsWith('--') ? `    ${term}` : term;
  },
  formatItem(term, _termWidth, description, helper) {
    if (description === '') return INDENT + term;
    const columns = this.helpWidth ?? DEFAULT_COLUMNS;
    const lines = helper
      .boxWrap(description, Math.max(20, columns - DESCRIPTION_INDENT.length))
      .replaceAll('\n', `\n${DESCRIPTION_INDENT}`);
    return term.length <= TERM_COLUMNS
      ? `${INDENT}${term.padEnd(TERM_COLUMNS)}${INDENT}${lines}`
      : `${INDENT}${term}\n${DESCRIPTION_INDENT}${lines}`;
  },
};

/** Names are in capitals, values as they are to be written. */
function valueName(value: string): string {
  return value.includes('|') || value === 'json' ? value : value.toUpperCase();
}
