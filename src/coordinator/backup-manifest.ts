/*
 * The manifest of one backup: a file beside the data; or, where the backup goes to standard output, a temporary file until it
 * can be put into the archive as its last member, as pg_basebackup does. Held by backup-target.ts.
 */
import { createReadStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileError } from '../errors.js';
import type { FileOwner } from '../file-owner.js';
import { MANIFEST_PATH, type ManifestFile, type WalRange } from '../manifest/manifest.js';
import { ManifestWriter, type ManifestOptions } from '../manifest/manifest-writer.js';
import type { Target } from '../target/target.js';

export interface BackupManifestOptions extends Omit<ManifestOptions, 'directory'> {
  /** Undefined: it goes into the archive. */
  readonly directory: string | undefined;
}

export interface ManifestMember {
  readonly target: Target;
  /** As TargetFile. */
  readonly owner: FileOwner | undefined;
}

export class BackupManifest {
  readonly #writer: ManifestWriter;
  readonly #mode: number;
  #temporary: string | undefined;

  /** @throws ConvoyError `target_io` */
  constructor({ directory, ...options }: BackupManifestOptions) {
    this.#mode = options.mode;
    if (directory === undefined) this.#temporary = makeTemporaryDirectory();
    this.#writer = new ManifestWriter({ ...options, directory: directory ?? this.#temporary ?? '' });
  }

  add(file: ManifestFile): void {
    this.#writer.addFile(file);
  }

  /** @param member how it is written if it goes into the archive. @throws ConvoyError `target_io` */
  async finish(range: WalRange, sync: boolean, { target, owner }: ManifestMember): Promise<void> {
    this.#writer.finish([range], sync);
    if (this.#temporary === undefined) return;
    const file = path.join(this.#temporary, MANIFEST_PATH);
    const { size } = statSync(file);
    const mtime = Math.floor(Date.now() / 1000);
    const member = target.createFile({ path: MANIFEST_PATH, size, mode: this.#mode, mtime, owner });
    for await (const chunk of createReadStream(file)) await member.write(chunk as Buffer);
    member.finish();
  }

  /** Gives up what is open, and what is temporary. */
  close(): void {
    this.#writer[Symbol.dispose]();
    if (this.#temporary !== undefined) rmSync(this.#temporary, { recursive: true, force: true });
    this.#temporary = undefined;
  }
}

function makeTemporaryDirectory(): string {
  const prefix = path.join(tmpdir(), 'pgconvoy-');
  try {
    return mkdtempSync(prefix);
  } catch (error) {
    throw fileError('create directory', prefix, error);
  }
}
