/* A WalReceiver before a walsender that does what a test tells it to. */
import assert from 'node:assert/strict';
import { type TestContext } from 'node:test';
import type { Lsn } from '../../src/lsn.js';
import type { SlotChoice } from '../../src/wal/replication-slot.js';
import type { WalSink } from '../../src/wal/segment-writer.js';
import { WalReceiver } from '../../src/wal/wal-receiver.js';
import { cleanup } from '../support/cleanup.js';
import { ManualClock } from '../support/manual-clock.js';
import { ScriptedServer } from '../support/scripted-server.js';
import { sendWal, SYSTEM_IDENTIFIER, type Walsender, type WalsenderScript } from '../support/wal-stream.js';

export const LIMIT = { timeout: 30_000 };
export const MiB = 1024 * 1024;
/** In the middle of segment 3 of 1 MiB segments, which begins at START. */
export const START_LSN = 0x30_0028n as Lsn;
export const START = 0x30_0000n;
export const THIRD = '000000010000000000000003';
export const FOURTH = '000000010000000000000004';

/** Keeps what it gets in memory. */
export class MemorySink implements WalSink {
  readonly files = new Map<string, Buffer>();
  readonly done: string[] = [];
  isAbandoned = false;
  /** What `write` returns. */
  wait: Promise<void> | undefined;
  #name = '';
  #chunks: Buffer[] = [];

  beginSegment(name: string): void {
    assert.equal(this.#name, '');
    this.#name = name;
  }

  write(chunk: Uint8Array): Promise<void> | undefined {
    assert.notEqual(this.#name, '');
    this.#chunks.push(Buffer.from(chunk));
    return this.wait;
  }

  endSegment(isWhole: boolean): void {
    this.files.set(this.#name, Buffer.concat(this.#chunks));
    if (isWhole) this.done.push(this.#name);
    this.#name = '';
    this.#chunks = [];
  }

  writeHistory(name: string, content: Buffer): void {
    this.files.set(name, content);
    this.done.push(name);
  }

  abandon(): void {
    this.isAbandoned = true;
  }
}

export interface Setup {
  readonly server: ScriptedServer;
  readonly receiver: WalReceiver;
  readonly sink: MemorySink;
  readonly clock: ManualClock;
}

export interface SetupOptions {
  readonly slot?: SlotChoice;
  readonly statusIntervalMs?: number;
  readonly sink?: MemorySink;
}

export async function setUp(t: TestContext, script: Walsender, options: SetupOptions = {}): Promise<Setup> {
  const server = await ScriptedServer.listen(t, script);
  const clock = new ManualClock();
  const { slot = { kind: 'none' }, statusIntervalMs = 10_000, sink = new MemorySink() } = options;
  const receiver = await WalReceiver.open(server.settings(), {
    systemIdentifier: SYSTEM_IDENTIFIER,
    segmentBytes: MiB,
    slot,
    statusIntervalMs,
    clock,
    askPassword: undefined,
    signal: undefined,
  });
  cleanup(t, () => receiver.destroy());
  return { server, receiver, sink, clock };
}

export function begin({ receiver, sink }: Setup, timeline = 1): Promise<void> {
  return receiver.start({ timeline, lsn: START_LSN }, sink);
}

/** A stream that sends these bytes from START on. */
export function sending(bytes: Buffer): WalsenderScript {
  return { stream: (session) => sendWal(session, START, bytes) };
}
