/*
 * What a backup manifest says, from the events of its JSON. Twin of manifest-writer.ts; called by read-manifest.ts.
 * Fields, states and messages: PostgreSQL's src/common/parse_manifest.c (versions 1 and 2).
 */
import { assertNever } from '../assert-never.js';
import { parseChecksumAlgorithm } from '../checksum.js';
import { ConvoyError } from '../errors.js';
import { decodeFileName } from '../file-name-bytes.js';
import { MAX_LISTED_ENTRIES } from '../limits.js';
import { parseLsn } from '../lsn.js';
import type { JsonReceiver } from './json-events.js';
import type { ManifestVersion, RecordedFile, WalRange } from './manifest.js';

type State =
  | 'top-start'
  | 'top-field'
  | 'top-end'
  | 'version'
  | 'system-identifier'
  | 'files-start'
  | 'files-next'
  | 'file-field'
  | 'file-value'
  | 'ranges-start'
  | 'ranges-next'
  | 'range-field'
  | 'range-value'
  | 'checksum'
  | 'end';

/** Fields at the top, and what is expected after each. */
const TOP_FIELDS: ReadonlyMap<string, State> = new Map([
  ['System-Identifier', 'system-identifier'],
  ['Files', 'files-start'],
  ['WAL-Ranges', 'ranges-start'],
  ['Manifest-Checksum', 'checksum'],
]);
const FILE_FIELDS: readonly string[] = [
  'Path',
  'Encoded-Path',
  'Size',
  'Last-Modified',
  'Checksum-Algorithm',
  'Checksum',
];
const RANGE_FIELDS: readonly string[] = ['Timeline', 'Start-LSN', 'End-LSN'];

const DECIMAL = /^\d+$/;
const HEXADECIMAL = /^(?:[0-9a-f]{2})*$/i;
const TIME = /^(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) GMT$/;
const MAX_UINT32 = 0xffff_ffff;
const MAX_UINT64 = 0xffff_ffff_ffff_ffffn;

/** A receiver of one manifest's events; the results are there when the text has ended and finish() has been called. */
export class ManifestParser implements JsonReceiver {
  readonly files = new Map<string, RecordedFile>();
  readonly walRanges: WalRange[] = [];
  systemIdentifier: bigint | undefined;
  /** As it stands at the end of the manifest, not checked yet. */
  checksum: string | undefined;
  #version: ManifestVersion | undefined;
  #state: State = 'top-start';
  #field = '';
  #values = new Map<string, string>();

  get version(): ManifestVersion {
    return this.#version ?? 1;
  }

  /** @throws ConvoyError where the JSON has ended and the manifest has not */
  finish(): void {
    if (this.#state !== 'end') throw parseFailure('manifest ended unexpectedly');
  }

  objectStart(): void {
    if (this.#state === 'top-start') this.#state = 'top-field';
    else if (this.#state === 'files-next') this.#state = 'file-field';
    else if (this.#state === 'ranges-next') this.#state = 'range-field';
    else throw parseFailure('unexpected object start');
    this.#values.clear();
  }

  objectEnd(): void {
    if (this.#state === 'top-end') {
      this.#state = 'end';
    } else if (this.#state === 'file-field') {
      this.#addFile();
      this.#state = 'files-next';
    } else if (this.#state === 'range-field') {
      this.walRanges.push(walRange(this.#values));
      this.#state = 'ranges-next';
    } else {
      throw parseFailure('unexpected object end');
    }
  }

  arrayStart(): void {
    if (this.#state === 'files-start') this.#state = 'files-next';
    else if (this.#state === 'ranges-start') this.#state = 'ranges-next';
    else throw parseFailure('unexpected array start');
  }

  arrayEnd(): void {
    if (this.#state !== 'files-next' && this.#state !== 'ranges-next')
      throw parseFailure('unexpected array end');
    this.#state = 'top-field';
  }

  field(name: string): void {
    if (this.#state === 'top-field') {
      this.#state = this.#topField(name);
    } else if (this.#state === 'file-field') {
      if (!FILE_FIELDS.includes(name)) throw parseFailure('unexpected file field');
      this.#state = 'file-value';
    } else if (this.#state === 'range-field') {
      if (!RANGE_FIELDS.includes(name)) throw parseFailure('unexpected WAL range field');
      this.#state = 'range-value';
    } else {
      throw parseFailure('unexpected object field');
    }
    this.#field = name;
  }

  scalar(text: string): void {
    switch (this.#state) {
      case 'version':
        this.#version = manifestVersion(text);
        this.#state = 'top-field';
        return;
      case 'system-identifier':
        this.systemIdentifier = parseSystemIdentifier(text);
        this.#state = 'top-field';
        return;
      case 'file-value':
        this.#values.set(this.#field, text);
        this.#state = 'file-field';
        return;
      case 'range-value':
        this.#values.set(this.#field, text);
        this.#state = 'range-field';
        return;
      case 'checksum':
        this.checksum = text;
        this.#state = 'top-end';
        return;
      case 'top-start':
      case 'top-field':
      case 'top-end':
      case 'files-start':
      case 'files-next':
      case 'file-field':
      case 'ranges-start':
      case 'ranges-next':
      case 'range-field':
      case 'end':
        throw parseFailure('unexpected scalar');
      default:
        assertNever(this.#state);
    }
  }

  #topField(name: string): State {
    if (this.#version === undefined) {
      if (name === 'PostgreSQL-Backup-Manifest-Version') return 'version';
      throw parseFailure('expected version indicator');
    }
    const next = TOP_FIELDS.get(name);
    if (next === undefined) throw parseFailure('unrecognized top-level field');
    return next;
  }

  #addFile(): void {
    const file = recordedFile(this.#values);
    if (this.files.has(file.path)) {
      throw damaged(`duplicate path name in backup manifest: "${file.path}"`);
    }
    if (this.files.size >= MAX_LISTED_ENTRIES) {
      throw damaged(`the backup manifest names more than ${MAX_LISTED_ENTRIES} files`);
    }
    this.files.set(file.path, file);
  }
}

function manifestVersion(text: string): ManifestVersion {
  if (!DECIMAL.test(text)) throw parseFailure('manifest version not an integer');
  const version = Number(text);
  if (version !== 1 && version !== 2) throw parseFailure('unexpected manifest version');
  return version;
}

function parseSystemIdentifier(text: string): bigint {
  if (!DECIMAL.test(text) || BigInt(text) > MAX_UINT64) {
    throw parseFailure('manifest system identifier not an integer');
  }
  return BigInt(text);
}

function recordedFile(values: ReadonlyMap<string, string>): RecordedFile {
  const path = filePath(values.get('Path'), values.get('Encoded-Path'));
  const sizeText = values.get('Size');
  if (sizeText === undefined) throw parseFailure('missing size');
  const algorithmName = values.get('Checksum-Algorithm');
  const checksum = values.get('Checksum') ?? '';
  if (algorithmName === undefined && values.has('Checksum')) throw parseFailure('checksum without algorithm');
  const size = Number(sizeText);
  if (!DECIMAL.test(sizeText) || !Number.isSafeInteger(size))
    throw parseFailure('file size is not an integer');
  const algorithm = parseChecksumAlgorithm(algorithmName ?? 'NONE');
  if (algorithm === undefined) throw damaged(`unrecognized checksum algorithm: "${algorithmName}"`);
  if (!HEXADECIMAL.test(checksum)) throw damaged(`invalid checksum for file "${path}": "${checksum}"`);
  return {
    path,
    size,
    mtime: modificationTime(values.get('Last-Modified')),
    checksum: checksum.toLowerCase(),
    algorithm,
  };
}

function filePath(path: string | undefined, encoded: string | undefined): string {
  if (path !== undefined && encoded !== undefined) throw parseFailure('both path name and encoded path name');
  if (path !== undefined) return path;
  if (encoded === undefined) throw parseFailure('missing path name');
  if (!HEXADECIMAL.test(encoded)) throw parseFailure('could not decode file name');
  return decodeFileName(Buffer.from(encoded, 'hex'));
}

/** Nobody needs it, so PostgreSQL does not look at it: no error. */
function modificationTime(text: string | undefined): number {
  const [, year, month, day, hour, minute, second] = TIME.exec(text ?? '') ?? [];
  if (year === undefined) return 0;
  return (
    Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second)) /
    1000
  );
}

function walRange(values: ReadonlyMap<string, string>): WalRange {
  const timelineText = values.get('Timeline');
  const start = values.get('Start-LSN');
  const end = values.get('End-LSN');
  if (timelineText === undefined) throw parseFailure('missing timeline');
  if (start === undefined) throw parseFailure('missing start LSN');
  if (end === undefined) throw parseFailure('missing end LSN');
  const timeline = Number(timelineText);
  if (!DECIMAL.test(timelineText) || timeline > MAX_UINT32) throw parseFailure('timeline is not an integer');
  const startLsn = parseLsn(start);
  const endLsn = parseLsn(end);
  if (startLsn === undefined) throw parseFailure('could not parse start LSN');
  if (endLsn === undefined) throw parseFailure('could not parse end LSN');
  return { timeline, startLsn, endLsn };
}

function damaged(message: string): ConvoyError {
  return new ConvoyError('file_damaged', message);
}

/** What PostgreSQL's programs say about a manifest that makes no sense. */
export function parseFailure(reason: string, hint?: string): ConvoyError {
  return new ConvoyError('file_damaged', `could not parse backup manifest: ${reason}`, { hint });
}
