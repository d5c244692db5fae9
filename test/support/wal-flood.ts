/* Writes WAL as fast as a server takes it, several segments a second, and has the server recycle it. */
import type { Client } from 'pg';
import { connect, type Endpoint } from './postgres.js';

const MESSAGE_BYTES = 512 * 1024;
const MESSAGES_PER_CHECKPOINT = 40;

export class WalFlood {
  readonly #client: Client;
  readonly #running: Promise<void>;
  #isStopping = false;

  /** Runs until `stop`, or until its server goes away. */
  static async start(server: Endpoint): Promise<WalFlood> {
    return new WalFlood(await connect(server));
  }

  private constructor(client: Client) {
    this.#client = client;
    this.#running = this.#run();
  }

  /** @throws Error when it could not write */
  async stop(): Promise<void> {
    this.#isStopping = true;
    try {
      await this.#running;
    } finally {
      await this.#client.end();
    }
  }

  async #run(): Promise<void> {
    const message = `SELECT pg_logical_emit_message(false, 'flood', repeat('x', ${MESSAGE_BYTES}))`;
    while (!this.#isStopping) {
      for (let sent = 0; sent < MESSAGES_PER_CHECKPOINT && !this.#isStopping; sent += 1) {
        await this.#client.query(message);
      }
      await this.#client.query('SELECT pg_switch_wal()');
      await this.#client.query('CHECKPOINT');
    }
  }
}
