/*
 * Entry of a session process of `pgconvoy serve`: passes the primary's messages on to src/server/session-host.ts.
 */
import { SessionHost } from '../src/server/session-host.js';
import type { FromSessionProcess, ToSessionProcess } from '../src/server/process-messages.js';

// Ctrl-C on a terminal reaches every process; the primary says what is to happen.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});

const host = new SessionHost({
  send: (message: FromSessionProcess) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => {});
  },
});

process.on('message', (message: ToSessionProcess, handle: unknown) => {
  void receive(message, handle);
});

async function receive(message: ToSessionProcess, handle: unknown): Promise<void> {
  if (await host.receive(message, handle)) process.exit(0);
}

// the primary has died: nobody hears us, and nobody stops us but ourselves
process.on('disconnect', () => {
  setTimeout(() => process.exit(1), 5000);
  void host.end().finally(() => process.exit(1));
});
