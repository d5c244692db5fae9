/*
 * Takes the files of one task from a source and writes them to the target, with the commit that ends the task. Driven by
 * copy-task.ts.
 */
import type { ManifestFile } from '../manifest/manifest.js';
import type { FileRange, FileReceiver, FileToRead, ReadFile } from '../source/source.js';
import type { ArchiveStretch } from '../target/target.js';
import type { CopiedPart, CopyTaskMessage } from './messages.js';
import { PacedFileCopy, type CopyTools } from './paced-file.js';

type FilePart = Pick<FileToRead, 'mtime'> & { readonly range: FileRange };

const ZEROS = Buffer.alloc(64 * 1024);

export class TaskCopy implements FileReceiver {
  readonly files: ManifestFile[] = [];
  readonly parts: CopiedPart[] = [];
  readonly #task: CopyTaskMessage;
  readonly #tools: CopyTools;
  readonly #copy: PacedFileCopy;
  readonly #arrived = new Set<number>();
  #offset: number | undefined;

  constructor(task: CopyTaskMessage, tools: CopyTools) {
    this.#task = task;
    this.#tools = tools;
    this.#copy = new PacedFileCopy(tools);
  }

  begin(index: number, { size, mode, mtime, owner }: ReadFile): void {
    const file = this.#task.files[index];
    this.#arrived.add(index);
    this.#offset = file?.range?.offset;
    const wholeSize = this.#offset === undefined ? size : file?.size;
    const slot = this.#task.slot + index;
    const path = file?.target ?? '';
    this.#copy.begin({ path, size, mode, mtime, owner, offset: this.#offset, wholeSize, slot });
  }

  data(chunk: Buffer): Promise<void> | undefined {
    return this.#copy.data(chunk);
  }

  end(): void {
    if (this.#offset === undefined) this.files.push(this.#copy.end());
    else this.parts.push({ ...this.#copy.end(), offset: this.#offset });
  }

  /** Targets of files that were gone. */
  get vanished(): string[] {
    return this.#task.files.filter((_file, index) => !this.#arrived.has(index)).map(({ target }) => target);
  }

  /** To be awaited before anything is read: whole files come behind the parts of others. */
  async mayBegin(): Promise<void> {
    const { turn } = this.#task;
    if (turn !== undefined && this.#part === undefined) await this.#tools.target.turns?.await(turn);
  }

  /** All has been read. @throws ConvoyError `target_io` */
  async commit(): Promise<readonly ArchiveStretch[]> {
    const { target } = this.#tools;
    const { turn, slot } = this.#task;
    const { turns } = target;
    const part = this.#part;
    if (turn === undefined || turns === undefined || part === undefined) return await target.commit();
    await turns.await(turn);
    if (part.range.offset > 0) await this.#followFirstPart(part, turns.hasBegun(slot));
    const stretches = await target.commit();
    turns.pass();
    return stretches;
  }

  /** Gives up all of it; never throws. @returns false where the task cannot be done again */
  async rollback(): Promise<boolean> {
    this.#copy.abandon();
    return await this.#tools.target.rollback();
  }

  /** The task's only file, where it is a part. */
  get #part(): FilePart | undefined {
    const [file] = this.#task.files;
    return file?.range && { range: file.range, mtime: file.mtime };
  }

  /** A file that vanished between its parts: with its first part it has all of them, without it none. */
  async #followFirstPart({ range, mtime }: FilePart, hasBegun: boolean): Promise<void> {
    const hasArrived = this.#arrived.has(0);
    if (hasBegun && !hasArrived) {
      const size = range.length;
      this.begin(0, { size, mode: 0, mtime });
      for (let left = size; left > 0; left -= ZEROS.length) {
        // oxlint-disable-next-line eslint/no-await-in-loop
        await this.data(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
      }
      this.end();
    }
    if (!hasBegun && hasArrived) {
      await this.rollback();
      this.#arrived.clear();
      this.parts.length = 0;
    }
  }
}
