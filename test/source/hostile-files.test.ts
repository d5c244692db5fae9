/* Servers that cannot be trusted with the files that they send. */
import { members, oversize, sends, testHostilities, UNASKED, type Hostility } from '../support/hostility.js';
import { FILES } from '../support/scripted-backup.js';
import { copy, pathsIn, tarMembers, VERSION_DIRECTORY } from '../support/scripted-cluster.js';
import { COMPLETE, COPY_OUT, copyData, errorMessage, READY } from '../support/scripted-server.js';

testHostilities([
  ...[
    '../outside/precious',
    '/etc/passwd',
    'base/../../outside/x',
    './PG_VERSION',
    'PG_VERSION/',
    'base/1/999',
    '',
    VERSION_DIRECTORY,
  ].map((name): Hostility => ({
    name: `a member "${name}" that nobody asked for`,
    on: FILES,
    answer: members((honest) => [{ name, content: Buffer.from('evil') }, ...honest]),
    code: 'untrusted_peer',
    said: UNASKED,
  })),
  {
    name: 'a member twice',
    on: FILES,
    answer: members((honest) => honest.flatMap((entry) => [entry, entry])),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'members in another order',
    on: FILES,
    answer: members((honest) => honest.toReversed()),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a link in place of a file',
    on: FILES,
    answer: members((honest) =>
      honest.map(({ name }) => ({ name, type: 'symlink', linkname: '/etc/passwd' })),
    ),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a hard link in place of a file',
    on: FILES,
    answer: members((honest) =>
      honest.map(({ name }) => ({ name, type: 'link', linkname: '../outside/precious' })),
    ),
    code: 'untrusted_peer',
    said: /tar header/,
  },
  {
    name: 'a directory in place of a file',
    on: FILES,
    answer: members((honest) => honest.map(({ name }) => ({ name, type: 'directory' }))),
    code: 'untrusted_peer',
    said: UNASKED,
  },
  {
    name: 'a file of 2^50 bytes',
    on: FILES,
    answer: oversize('PG_VERSION', 2n ** 50n),
    code: 'untrusted_peer',
    said: /impossible size/,
  },
  {
    name: 'a relation segment past 1 GiB',
    on: FILES,
    answer: oversize('base/1/112', 2n ** 30n + 1n),
    code: 'untrusted_peer',
    said: /impossible size/,
  },
  {
    name: 'a size past all numbers',
    on: FILES,
    answer: oversize('PG_VERSION', 2n ** 63n),
    code: 'untrusted_peer',
    said: /invalid number/,
  },
  {
    name: 'a stream that is no tar',
    on: FILES,
    answer: sends(copy(Buffer.alloc(600, 'x'), COMPLETE, READY)),
    code: 'untrusted_peer',
    said: /tar header/,
  },
  {
    name: 'a stream that ends in a member',
    on: FILES,
    answer: async (command, session, cluster) =>
      session.write(
        copy((await tarMembers(cluster.members(pathsIn(command)))).subarray(0, 2000), COMPLETE, READY),
      ),
    code: 'untrusted_peer',
    said: /ended inside a member/,
  },
  {
    name: 'an error inside the stream',
    on: FILES,
    answer: sends(COPY_OUT, errorMessage('XX000', 'file name too long for tar format'), READY),
    code: 'server_error',
    said: /file name too long/,
  },
  {
    name: 'a checksum failure before the data is complete',
    on: FILES,
    answer: sends(
      COPY_OUT,
      copyData(Buffer.alloc(100)),
      errorMessage('XX001', 'checksum verification failure'),
      READY,
    ),
    code: 'untrusted_peer',
    said: /ended inside a member/,
  },
]);
