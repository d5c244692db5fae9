/* Servers that cannot be trusted with what they list, nor with the directories of the list. */
import {
  listing,
  members,
  sends,
  testHostilities,
  UNASKED,
  withDirectory,
  withFile,
} from '../support/hostility.js';
import { DIRECTORIES, LIST } from '../support/scripted-backup.js';
import { columns, COMPLETE, READY, row } from '../support/scripted-server.js';

testHostilities([
  {
    name: 'a list with a parent',
    on: LIST,
    answer: listing('./../outside/precious'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with an absolute path',
    on: LIST,
    answer: listing('/etc/passwd'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with a link out',
    on: LIST,
    answer: listing('./base/6', 'l'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with a file below a link',
    on: LIST,
    answer: listing('./pg_tblspc/16384/x'),
    code: 'untrusted_peer',
    said: /invalid path/,
  },
  {
    name: 'a list with a file twice',
    on: LIST,
    answer: listing('./PG_VERSION'),
    code: 'untrusted_peer',
    said: /listed twice/,
  },
  {
    name: 'a list with a socket',
    on: LIST,
    answer: listing('./socket', 's'),
    code: 'untrusted_peer',
    said: /invalid file list row/,
  },
  {
    name: 'a list with a size of letters',
    on: LIST,
    answer: listing('./x', 'f', 'big'),
    code: 'untrusted_peer',
    said: /invalid size/,
  },
  {
    name: 'a list with a directory before its parent',
    on: LIST,
    answer: withDirectory('./no/parent'),
    code: 'target_io',
    said: /could not create directory .*No such file or directory/,
  },
  {
    name: 'a list with a file in a file',
    on: LIST,
    answer: withFile('./PG_VERSION/x'),
    code: 'target_io',
    said: /could not create file .*Not a directory/,
  },
  {
    name: 'one result set too few',
    on: LIST,
    answer: (_command, session, cluster) => session.write(cluster.lists()[0] ?? READY, COMPLETE, READY),
    code: 'server_error',
    said: /tablespace was created or dropped/,
  },
  {
    name: 'rows before their columns',
    on: LIST,
    answer: sends(row('./x', 'f', '1', '1'), COMPLETE, READY),
    code: 'server_error',
    said: /tablespace was created or dropped/,
  },
  {
    name: 'rows of too few columns',
    on: LIST,
    answer: sends(columns('path'), row('./x'), COMPLETE, READY),
    code: 'untrusted_peer',
    said: /invalid result row/,
  },
  {
    name: 'a directory as a link',
    on: DIRECTORIES,
    answer: members((honest) => honest.map((entry) => ({ ...entry, type: 'symlink', linkname: '/tmp' }))),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'another directory',
    on: DIRECTORIES,
    answer: members(() => [{ name: '../outside/new/', type: 'directory' }]),
    code: 'untrusted_peer',
    said: UNASKED,
  },
]);
