/* Settings as configuration files hold them; what a server makes of them is tested in e2e/standby-copy.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatSettings } from '../../src/pgdata/recovery-settings.js';

// as escape_single_quotes_ascii of src/port/quotes.c, and \n, which GUC_scanstr of guc-file.l takes for a line break
for (const [value, line] of [
  ['host=a', `x = 'host=a'\n`],
  ['', `x = ''\n`],
  [`it's`, `x = 'it''s'\n`],
  [String.raw`a\b\'c`, String.raw`x = 'a\\b\\''c'` + '\n'],
  ['two\nlines', String.raw`x = 'two\nlines'` + '\n'],
  ['ünï = #', `x = 'ünï = #'\n`],
] as const) {
  test(`the value ${JSON.stringify(value)}`, () => {
    assert.equal(formatSettings([{ name: 'x', value }]), line);
  });
}

test('one line a setting', () => {
  const settings = [
    { name: 'primary_conninfo', value: '' },
    { name: 'primary_slot_name', value: 's' },
  ];
  assert.equal(formatSettings(settings), `primary_conninfo = ''\nprimary_slot_name = 's'\n`);
});
