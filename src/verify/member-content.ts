/* The content of one member of a compressed archive, checked as it streams by. Called by check-archive.ts. */
import type { RecordedFile } from '../manifest/manifest.js';
import { CONTROL_FILE_PATH } from '../pgdata/control-file.js';
import { checksummedSegment, verificationWarnings } from '../pgdata/page-verifier.js';
import { CONTROL_FILE_BYTES } from '../limits.js';
import type { CheckTools } from './check-files.js';
import { checksumProblem, ContentCheck } from './content-check.js';

export interface CheckedMember {
  readonly problems: readonly string[];
  readonly pageProblems: readonly string[];
  /** The content itself, of pg_control. */
  readonly controlFile: Buffer | undefined;
}

export class MemberContent {
  readonly #file: RecordedFile;
  readonly #archive: string;
  readonly #tools: CheckTools;
  readonly #check: ContentCheck;
  readonly #hasPages: boolean;
  readonly #controlFile: Buffer | undefined;
  #bytes = 0;
  /** Bytes in the buffer that are not checked yet: pages are checked whole, and in the page memory. */
  #filled = 0;
  #flushedBytes = 0;

  constructor(file: RecordedFile, archive: string, tools: CheckTools) {
    this.#file = file;
    this.#archive = archive;
    this.#tools = tools;
    this.#check = new ContentCheck(
      file.path,
      tools.settings.checkFiles ? file.algorithm : 'NONE',
      tools.pages,
    );
    this.#hasPages = tools.pages !== undefined && checksummedSegment(file.path) !== undefined;
    const isControlFile = file.path === CONTROL_FILE_PATH && file.size === CONTROL_FILE_BYTES;
    this.#controlFile = isControlFile ? Buffer.alloc(CONTROL_FILE_BYTES) : undefined;
  }

  /** @param chunk borrowed until the call returns */
  data(chunk: Buffer): void {
    this.#controlFile?.set(chunk, this.#bytes);
    this.#tools.progress(chunk.length, 0);
    if (this.#hasPages) this.#gather(chunk);
    else this.#check.update(chunk, this.#bytes);
    this.#bytes += chunk.length;
  }

  /** After the last chunk. */
  end(): CheckedMember {
    const { settings, progress } = this.#tools;
    this.#flush();
    progress(0, 1);
    const where = ` in archive "${this.#archive}"`;
    const isCompared = settings.checkFiles && this.#file.algorithm !== 'NONE';
    const wrong = isCompared ? checksumProblem(this.#file, this.#check.digest(), where) : undefined;
    const { pages } = this.#check;
    return {
      problems: wrong === undefined ? [] : [wrong],
      pageProblems: pages === undefined ? [] : verificationWarnings(this.#file.path, pages),
      controlFile: this.#controlFile,
    };
  }

  #gather(chunk: Buffer): void {
    const { buffer } = this.#tools;
    for (let at = 0; at < chunk.length;) {
      const bytes = Math.min(buffer.length - this.#filled, chunk.length - at);
      chunk.copy(buffer, this.#filled, at, at + bytes);
      at += bytes;
      this.#filled += bytes;
      if (this.#filled === buffer.length) this.#flush();
    }
  }

  #flush(): void {
    if (this.#filled === 0) return;
    this.#check.update(this.#tools.buffer.subarray(0, this.#filled), this.#flushedBytes);
    this.#flushedBytes += this.#filled;
    this.#filled = 0;
  }
}
