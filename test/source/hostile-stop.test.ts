/* Servers that cannot be trusted at the end of a backup: pg_control, WAL, the last position. */
import { members, testHostilities, UNASKED } from '../support/hostility.js';
import { STOP } from '../support/scripted-backup.js';
import { controlFile, copy, SEGMENT_NAME, STOP_LSN, tarMembers } from '../support/scripted-cluster.js';
import { COMPLETE, READY, resultSet } from '../support/scripted-server.js';

testHostilities([
  {
    name: 'a damaged pg_control',
    on: STOP,
    answer: members((honest) => [
      { name: 'global/pg_control', content: Buffer.alloc(8192, 1) },
      ...honest.slice(1),
    ]),
    code: 'file_damaged',
    said: /invalid checksum in control file/,
  },
  {
    name: "another cluster's pg_control",
    on: STOP,
    answer: members((honest) => [
      { name: 'global/pg_control', content: controlFile(5n) },
      ...honest.slice(1),
    ]),
    code: 'untrusted_peer',
    said: /another cluster/,
  },
  {
    name: 'no pg_control',
    on: STOP,
    answer: members((honest) => honest.slice(1)),
    code: 'untrusted_peer',
    said: /did not send "global\/pg_control"/,
  },
  {
    name: 'pg_control last',
    on: STOP,
    answer: members((honest) => honest.toReversed()),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'no WAL',
    on: STOP,
    answer: members((honest) => honest.slice(0, 1)),
    code: 'wal_missing',
    said: /did not send WAL segment/,
  },
  {
    name: 'a short segment',
    on: STOP,
    answer: members((honest) =>
      honest.map((entry) => ({
        ...entry,
        ...(entry.name.endsWith(SEGMENT_NAME) ? { content: Buffer.alloc(512) } : {}),
      })),
    ),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'WAL that was not asked for',
    on: STOP,
    answer: members((honest) => honest),
    options: { wal: 'none' },
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a way out with WAL',
    on: STOP,
    answer: members((honest) => [
      ...honest,
      { name: 'pg_wal/../../outside/precious', content: Buffer.from('evil') },
    ]),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'backup_label in the stream',
    on: STOP,
    answer: members((honest) => [...honest, { name: 'backup_label', content: Buffer.from('evil') }]),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'no position at the end',
    on: STOP,
    answer: async (_command, session, cluster) =>
      session.write(copy(await tarMembers(cluster.stopMembers(true)), COMPLETE, READY)),
    code: 'untrusted_peer',
    said: /number of rows/,
  },
  {
    name: 'an end before the start',
    on: STOP,
    answer: async (_command, session, cluster) =>
      session.write(
        copy(await tarMembers(cluster.stopMembers(true)), resultSet([['0/1000000', '1']]), COMPLETE, READY),
      ),
    code: 'untrusted_peer',
    said: /ended before it started/,
  },
  {
    name: 'another timeline at the end',
    on: STOP,
    answer: async (_command, session, cluster) =>
      session.write(
        copy(await tarMembers(cluster.stopMembers(true)), resultSet([[STOP_LSN, '2']]), COMPLETE, READY),
      ),
    code: 'server_error',
    said: /another timeline/,
  },
]);
