/*
 * Compares files with what the manifest says of them: size, checksum, and on request their pages. What a thread of
 * `verify` does; the files lie in a directory, or in an archive that is not compressed.
 * Source: verify_file_checksum in PostgreSQL 18's pg_verifybackup.c, and its words.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { parseCrc32c } from '../checksum.js';
import { ConvoyError, fileError } from '../errors.js';
import { encodeFileName } from '../file-name-bytes.js';
import { verificationWarnings } from '../pgdata/page-verifier.js';
import type { CheckedFile, CheckRoot, CheckSettings, RangeCheck } from './check-messages.js';
import { checksumProblem, ContentCheck, isRead, type PageTools } from './content-check.js';

export interface CheckTools {
  readonly settings: CheckSettings;
  /** Overwritten; a whole number of pages, in the page memory where pages are checked. */
  readonly buffer: Buffer;
  readonly pages: PageTools | undefined;
  /** Told of what has been read. */
  readonly progress: (bytes: number, files: number) => void;
}

/** @returns what is wrong, one line each */
export function checkFiles(root: CheckRoot, files: readonly CheckedFile[], tools: CheckTools): string[] {
  using opened = new OpenArchive(root);
  return files.flatMap((file) => {
    try {
      const problems = checkFile(root, file, tools, opened);
      tools.progress(0, 1);
      return problems;
    } catch (error) {
      if (error instanceof ConvoyError && error.code === 'target_io') return [error.message];
      throw error;
    }
  });
}

/** @throws ConvoyError `target_io` where the file cannot be read */
export function checkRange(
  root: CheckRoot,
  file: CheckedFile,
  { from, bytes }: { readonly from: number; readonly bytes: number },
  tools: CheckTools,
): RangeCheck {
  using opened = new OpenArchive(root);
  const { checkFiles: wantsChecksum } = tools.settings;
  const check = new ContentCheck(file.path, wantsChecksum ? file.algorithm : 'NONE', tools.pages);
  const descriptor = opened.open(file);
  try {
    const readBytes = readContent(descriptor, file, { from, bytes }, check, tools);
    const digest = check.digest();
    return { crc: digest === '' ? 0 : parseCrc32c(digest), readBytes, pages: check.pages };
  } finally {
    opened.close(descriptor);
  }
}

function checkFile(root: CheckRoot, file: CheckedFile, tools: CheckTools, opened: OpenArchive): string[] {
  const { checkFiles: wantsChecksum } = tools.settings;
  if (!isRead(file, wantsChecksum, tools.pages !== undefined)) {
    return root.kind === 'directory' ? sizeProblem(file, sizeOf(root.directory, file.path)) : [];
  }
  const descriptor = opened.open(file);
  try {
    const wrongSize = root.kind === 'directory' ? sizeProblem(file, fstatSync(descriptor).size) : [];
    if (wrongSize.length > 0) return wrongSize;
    const algorithm = wantsChecksum ? file.algorithm : 'NONE';
    const check = new ContentCheck(file.path, algorithm, tools.pages);
    const readBytes = readContent(descriptor, file, { from: 0, bytes: file.size }, check, tools);
    if (readBytes !== file.size) return [shortProblem(file, readBytes)];
    const where = root.kind === 'archive' ? ` in archive "${root.name}"` : '';
    const wrong = algorithm === 'NONE' ? undefined : checksumProblem(file, check.digest(), where);
    const warnings = check.pages === undefined ? [] : verificationWarnings(file.path, check.pages);
    return wrong === undefined ? warnings : [wrong, ...warnings];
  } finally {
    opened.close(descriptor);
  }
}

/** @throws ConvoyError `target_io` */
function sizeOf(directory: string, path: string): number {
  try {
    return statSync(encodeFileName(`${directory}/${path}`)).size;
  } catch (error) {
    throw fileError('stat file or directory', path, error);
  }
}

/** The problem of a plain backup's file, if its size is one. */
export function sizeProblem({ path, size }: CheckedFile, found: number): string[] {
  if (found === size) return [];
  return [`"${path}" has size ${found} on disk but size ${size} in the manifest`];
}

export function shortProblem({ path, size }: CheckedFile, readBytes: number): string {
  return `file "${path}" should contain ${size} bytes, but read ${readBytes}`;
}

/** @returns how many bytes there were @throws ConvoyError `target_io` */
function readContent(
  descriptor: number,
  file: CheckedFile,
  { from, bytes }: { readonly from: number; readonly bytes: number },
  check: ContentCheck,
  { buffer, progress }: CheckTools,
): number {
  let done = 0;
  while (done < bytes) {
    const wanted = Math.min(buffer.length, bytes - done);
    const got = readFully(descriptor, file, buffer.subarray(0, wanted), from + done);
    check.update(buffer.subarray(0, got), from + done);
    progress(got, 0);
    done += got;
    if (got < wanted) break;
  }
  return done;
}

/** Fills the piece, so that a page is never in two; less only at the file's end. */
function readFully(descriptor: number, file: CheckedFile, piece: Buffer, from: number): number {
  let bytes = 0;
  try {
    while (bytes < piece.length) {
      const got = readSync(descriptor, piece, bytes, piece.length - bytes, (file.offset ?? 0) + from + bytes);
      if (got === 0) break;
      bytes += got;
    }
  } catch (error) {
    throw fileError('read file', file.path, error);
  }
  return bytes;
}

/** Opens files of a directory one by one, an archive once. */
class OpenArchive implements Disposable {
  readonly #root: CheckRoot;
  #archive: number | undefined;

  constructor(root: CheckRoot) {
    this.#root = root;
  }

  /** @throws ConvoyError `target_io` */
  open({ path }: CheckedFile): number {
    const root = this.#root;
    if (root.kind === 'directory') return openForReading(`${root.directory}/${path}`, path);
    this.#archive ??= openForReading(root.path, root.name);
    return this.#archive;
  }

  close(descriptor: number): void {
    if (descriptor !== this.#archive) closeSync(descriptor);
  }

  [Symbol.dispose](): void {
    if (this.#archive !== undefined) closeSync(this.#archive);
  }
}

/** @param name as messages have it */
function openForReading(file: string, name: string): number {
  try {
    return openSync(encodeFileName(file), 'r');
  } catch (error) {
    throw fileError('open file', name, error);
  }
}
