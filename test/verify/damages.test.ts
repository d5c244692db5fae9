/*
 * Backups that pg_basebackup took, mutilated in one way each, and what verify says of them. pg_verifybackup 15 is asked
 * about the plain ones: it must come to the same verdict, in the same words where they are its own.
 */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { canEnter, serverAccount, type ServerAccount } from '../../src/demo/server-account.js';
import { cleanup, temporaryDirectory } from '../support/cleanup.js';
import { pgconvoy, PROGRAM } from '../support/pgconvoy.js';
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
    .replaceAll(/(is damaged|gzip|lz4|zstd): .*/g, '$1: #')
    .replaceAll(/ends before \d+ files/g, 'ends before # files')
    .replaceAll(/pageaddr # in WAL segment [0-9A-F]{24}/g, 'pageaddr # in WAL segment #');
}

/** A line for each file that the manifest has outside tablespaces, where the line stands for that. */
function eachNamed(line: string, directory: string): string[] {
  if (!line.includes('EACHFILE')) return [line];
  const manifest = readFileSync(path.join(directory, 'backup_manifest'), 'utf8');
  return [...manifest.matchAll(/"Path": "([^"]+)"/g)]
    .map(([, file = '']) => file)
    .filter((file) => !/^(?:pg_tblspc|pg_wal)\/|^postgresql\.auto\.conf$/.test(file))
    .map((file) => line.replace('EACHFILE', file));
}

async function isWithinReach(account: ServerAccount | undefined): Promise<boolean> {
  const programs = [PROGRAM, process.execPath].map((file) => path.dirname(file));
  const reach = await Promise.all(programs.map((directory) => canEnter(directory, account)));
  return !reach.includes(false);
}

test('damages of a backup', async (t) => {
  const command = requireTool(t, 'pg_basebackup');
  const verifybackup = requireTool(t, 'pg_verifybackup');
  if (command === undefined || verifybackup === undefined) return;
  const backups = await takeBackups(t, command);
  assert.ok(segmentsIn(backups.plain).length > 3, 'several segments of WAL');
  const check = async (
    damage: Damage,
    directory: string,
    jobs: number,
    account: ServerAccount | undefined,
  ): Promise<void> => {
    const { says, options = [], place = '' } = damage;
    if (account !== undefined) await run('chown', ['-R', `${account.uid}:${account.gid}`, directory]);
    await damage.mutilate(directory, backups);
    const args = [...options, path.join(directory, place)].map((each) => named(each, directory, backups));
    const result = await pgconvoy(['verify', '-j', String(jobs), ...args], { account });
    const expected = says
      .flatMap((line) => eachNamed(line, directory))
      .map((line) => named(line, directory, backups))
      .toSorted();
    assert.deepEqual(errorLines(result.stderr, 'pgconvoy').map(blurred), expected);
    assert.equal(result.stdout, says.length === 0 ? 'backup successfully verified\n' : '');
    assert.equal(result.status, says.length === 0 ? 0 : 1);
    if ('theirs' in damage && damage.theirs === undefined) return;
    const theirs = await run(verifybackup, args, { account });
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
    ['lz4', ARCHIVE_DAMAGES.lz4],
    ['zstd', ARCHIVE_DAMAGES.zstd],
  ] as const) {
    for (const [index, damage] of damages.entries()) {
      await t.test(`${kind}: ${damage.name}`, async (subtest) => {
        const directory = path.join(await temporaryDirectory(subtest), 'copy');
        await cp(backups[kind], directory, { recursive: true });
        const account = damage.byOrdinaryUser === true ? await serverAccount() : undefined;
        if (!(await isWithinReach(account))) {
          subtest.skip('the program is out of reach for other accounts');
          return;
        }
        // what nobody may enter, nobody but root can remove
        if (damage.byOrdinaryUser === true)
          cleanup(subtest, async () => void (await run('chmod', ['-R', 'u+rwX', directory])));
        await check(damage, directory, 1 + (index % 2), account);
      });
    }
  }
});
