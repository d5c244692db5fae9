/* Servers that cannot be trusted at any step: the same misbehaviour wherever it is possible. */
import { endless, half, sends, testHostilities, type Hostility } from '../support/hostility.js';
import { EVERY_STEP, LIST } from '../support/scripted-backup.js';
import {
  COMPLETE,
  COPY_OUT,
  copyData,
  errorMessage,
  head,
  message,
  READY,
} from '../support/scripted-server.js';

testHostilities([
  ...EVERY_STEP.flatMap(([name, on]): Hostility[] => [
    {
      name: `garbage ${name}`,
      on,
      answer: sends(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')),
      code: 'untrusted_peer',
      said: /invalid message/,
    },
    {
      name: `a length of 2 GiB ${name}`,
      on,
      answer: sends(head('D', 2 ** 31)),
      code: 'untrusted_peer',
      said: /invalid message/,
    },
    {
      name: `an error without its end ${name}`,
      on,
      answer: sends(message('E', 'SERROR')),
      code: 'untrusted_peer',
      said: /invalid message/,
    },
    {
      name: `half an answer and the end ${name}`,
      on,
      answer: half,
      code: 'connection_lost',
      said: /lost connection to server/,
    },
  ]),
  ...EVERY_STEP.slice(1, 5).map(([name, on]): Hostility => ({
    name: `copy data that nobody asked for ${name}`,
    on,
    answer: sends(COPY_OUT, copyData(Buffer.from('x'))),
    code: 'untrusted_peer',
    said: /nobody asked for/,
  })),
  ...EVERY_STEP.slice(3).map(([name, on]): Hostility => ({
    name: `errors without end ${name}`,
    on,
    answer: endless(errorMessage('XX000', 'and again')),
    code: ['server_error', 'connection_lost'],
    said: /^ERROR: {2}and again$/,
  })),
  ...EVERY_STEP.slice(1, 5).map(([name, on]): Hostility => ({
    name: `no rows ${name}`,
    on,
    answer: sends(COMPLETE, READY),
    code: on === LIST ? 'server_error' : 'untrusted_peer',
    said: /./,
  })),
]);
