/*
 * Backups that pg_basebackup took, mutilated in one way each, and what verify says of them. pg_verifybackup 15 is asked
 * about the plain ones: it must come to the same verdict, in the same words where they are its own.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy } from '../support/pgconvoy.js';
import { requireTool, run } from '../support/tools.js';
import { ARCHIVE_DAMAGES } from './archive-damages.js';
import { segmentsIn, takeBackups, type Damage, type TakenBackups } from './damaged-backup.js';
import { PLAIN_DAMAGES } from './plain-damages.js';

/** With names instead of placeholders, and the other way round for what is not known beforehand. */
function named(text: string, directory: string, backups: TakenBackups): string {
  return text
    .replaceAll('DIRECTORY', directory)
    .replaceAll('RELATIONSIZE', String(statSync(path.join(backups.plain, backups.relation)).size))
    .replaceAll('RELATION', backups.relation)
    .replaceAll('TABLESPACE', backups.tablespace)
    .replaceAll('SEGMENT', segmentsIn(backups.plain)[1] ?? '');
}

function errorLines(stderr: string, program: string): string[] {
  return stderr
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(`${program}: error: `, ''))
    .toSorted();
}

/** Without positions and checksums, which differ from run to run. */
function blurred(line: string): string {
  return line
    .replaceAll(/[0-9A-F]+\/[0-9A-F]+(?=[ ,]|$)/g, '#')
    .replace(/block \d+: calculated [0-9A-F]+ but expected [0-9A-F]+/, 'block #: calculated # but expected #')
    .replace(/(pg_tblspc\/\d+)\/[^"]*/, '$1/#')
    .replaceAll(/(is damaged|gzip): .*/g, '$1: #')
    .replaceAll(/ends before \d+ files/g, 'ends before # files')
    .replaceAll(/pageaddr # in WAL segment [0-9A-F]{24}/g, 'pageaddr # in WAL segment #');
}

test('damages of a backup', async (t) => {
  const command = requireTool(t, 'pg_basebackup');
  const verifybackup = requireTool(t, 'pg_verifybackup');
  if (command === undefined || verifybackup === undefined) return;
  const backups = await takeBackups(t, command);
  assert.ok(segmentsIn(backups.plain).length > 3, 'several segments of WAL');
  const check = async (damage: Damage, directory: string, jobs: number): Promise<void> => {
    const { says, options = [], place = '' } = damage;
    await damage.mutilate(directory, backups);
    const args = [...options, path.join(directory, place)].map((each) => named(each, directory, backups));
    const result = await pgconvoy(['verify', '-j', String(jobs), ...args]);
    const expected = says.map((line) => named(line, directory, backups)).toSorted();
    assert.deepEqual(errorLines(result.stderr, 'pgconvoy').map(blurred), expected);
    assert.equal(result.stdout, says.length === 0 ? 'backup successfully verified\n' : '');
    assert.equal(result.status, says.length === 0 ? 0 : 1);
    if ('theirs' in damage && damage.theirs === undefined) return;
    const theirs = await run(verifybackup, args);
    const theirLines = errorLines(theirs.stderr, 'pg_verifybackup').filter(
      (line) => !line.startsWith('pg_waldump'),
    );
    const expectedOfThem = (damage.theirs ?? says).map((line) => named(line, directory, backups));
    assert.deepEqual(theirLines, expectedOfThem.toSorted());
    assert.equal(theirs.status, result.status);
  };
  for (const [kind, damages] of [
    ['plain', PLAIN_DAMAGES],
    ['tar', ARCHIVE_DAMAGES.tar],
    ['gzip', ARCHIVE_DAMAGES.gzip],
  ] as const) {
    for (const [index, damage] of damages.entries()) {
      await t.test(`${kind}: ${damage.name}`, async (subtest) => {
        const directory = path.join(await temporaryDirectory(subtest), 'copy');
        await cp(backups[kind], directory, { recursive: true });
        await check(damage, directory, 1 + (index % 2));
      });
    }
  }
});
