/* Servers that cannot be trusted with what they say before files are listed. */
import { MAIN, sends, start, testHostilities, value, type Hostility } from '../support/hostility.js';
import { IDENTIFY, PROBE, SEGMENT_SIZE, START } from '../support/scripted-backup.js';
import { BACKUP_LABEL, START_LSN } from '../support/scripted-cluster.js';
import { COMPLETE, errorMessage, READY, resultSet } from '../support/scripted-server.js';

testHostilities([
  {
    name: 'no parallel commands',
    on: PROBE,
    answer: sends(
      errorMessage('42601', 'cannot execute SQL commands in WAL sender for physical replication'),
      READY,
    ),
    code: 'server_unsupported',
    said: /does not know the parallel backup commands/,
  },
  {
    name: 'a system identifier of letters',
    on: IDENTIFY,
    answer: value('x; rm', '1', START_LSN, null),
    code: 'untrusted_peer',
    said: /unexpected answer to IDENTIFY_SYSTEM/,
  },
  {
    name: 'two systems',
    on: IDENTIFY,
    answer: sends(resultSet([['1'], ['2']]), COMPLETE, READY),
    code: 'untrusted_peer',
    said: /number of rows/,
  },
  ...['0MB', '3MB', '2GB', '16', '-16MB', '16MB\n', '512kB', ''].map((text): Hostility => ({
    name: `a WAL segment size of ${JSON.stringify(text)}`,
    on: SEGMENT_SIZE,
    answer: value(text),
    code: 'untrusted_peer',
    said: /unexpected answer to wal_segment_size/,
  })),
  ...['4777', '0777', '0000', '', 'rwx'].map((text): Hostility => ({
    name: `a data directory mode of "${text}"`,
    on: /data_directory_mode/,
    answer: value(text),
    code: 'untrusted_peer',
    said: /unexpected answer to data_directory_mode/,
  })),
  {
    name: 'a start at no position',
    on: START,
    answer: start(['nowhere', '1'], [MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid position row/,
  },
  {
    name: 'a start on timeline 0',
    on: START,
    answer: start([START_LSN, '0'], [MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid position row/,
  },
  {
    name: "another backup's label",
    on: START,
    answer: start(['0/3000028', '1'], [MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /label does not match/,
  },
  {
    name: 'a label that is none',
    on: START,
    answer: start([START_LSN, '1'], [MAIN], 'LABEL: x\n'),
    code: 'file_damaged',
    said: /START WAL LOCATION/,
  },
  {
    name: 'a label of 2 MiB',
    on: START,
    answer: start([START_LSN, '1'], [MAIN], BACKUP_LABEL + 'x'.repeat(2 ** 21)),
    code: 'untrusted_peer',
    said: /invalid label row/,
  },
  {
    name: 'no data directory',
    on: START,
    answer: start([START_LSN, '1'], [], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /no data directory/,
  },
  {
    name: 'a relative tablespace',
    on: START,
    answer: start([START_LSN, '1'], [['16384', '../outside', null], MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid location/,
  },
  {
    name: 'a tablespace with a way up',
    on: START,
    answer: start([START_LSN, '1'], [['16384', '/tmp/../etc', null], MAIN], BACKUP_LABEL),
    code: 'untrusted_peer',
    said: /invalid location/,
  },
]);
