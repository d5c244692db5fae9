/*
 * The result sets of the parallel backup commands: their columns, and rows as values and back. `serve` encodes,
 * the client decodes; the twins stand side by side. Columns byte for byte as in PROTOCOL "Message flow".
 */
import { ConvoyError } from '../errors.js';
import { MAX_LABEL_BYTES, MAX_PATH_BYTES } from '../limits.js';
import { formatLsn, parseLsn, type Lsn } from '../lsn.js';

/** A column of a RowDescription; table, attribute and type modifier are 0 and the format is text. */
export interface Column {
  readonly name: string;
  readonly typeOid: number;
  readonly typeLength: number;
}

/** The values of a DataRow in text format. */
export type TextRow = readonly (string | null)[];

const TEXT = 25;
const INT8 = 20;
const OID = 26;
const CHAR = 18;

export const POSITION_COLUMNS: readonly Column[] = [
  { name: 'recptr', typeOid: TEXT, typeLength: -1 },
  { name: 'tli', typeOid: INT8, typeLength: -1 },
];
export const TABLESPACE_COLUMNS: readonly Column[] = [
  { name: 'spcoid', typeOid: OID, typeLength: 4 },
  { name: 'spclocation', typeOid: TEXT, typeLength: -1 },
  { name: 'size', typeOid: INT8, typeLength: 8 },
];
export const LABEL_COLUMNS: readonly Column[] = [
  { name: 'label', typeOid: TEXT, typeLength: -1 },
  { name: 'tablespacemap', typeOid: TEXT, typeLength: -1 },
];
export const FILE_COLUMNS: readonly Column[] = [
  { name: 'path', typeOid: TEXT, typeLength: -1 },
  { name: 'type', typeOid: CHAR, typeLength: 1 },
  { name: 'size', typeOid: INT8, typeLength: 8 },
  { name: 'mtime', typeOid: INT8, typeLength: 8 },
];

/** Where the backup starts or ends in the WAL. */
export interface Position {
  readonly lsn: Lsn;
  readonly timeline: number;
}

/** A row of START_BACKUP's header; the main data directory has neither oid nor location and comes last. */
export interface TablespaceRow {
  readonly oid: number | undefined;
  readonly location: string | undefined;
  /** kB, where PROGRESS was asked for. */
  readonly sizeKilobytes: number | undefined;
}

export interface LabelRow {
  /** The whole text of backup_label. */
  readonly label: string;
  /** The whole text of tablespace_map, where it was asked for and there are tablespaces. */
  readonly tablespaceMap: string | undefined;
}

export type ListedType = 'file' | 'directory' | 'link';

export interface ListedFile {
  readonly path: string;
  readonly type: ListedType;
  /** Bytes; -1 for a directory. The patched server's own numbers are 32 bits wide and may be negative. */
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
}

export function encodePosition(position: Position): TextRow {
  return [formatLsn(position.lsn), String(position.timeline)];
}

export function decodePosition(row: TextRow): Position {
  const [recptr, tli] = columns(row, 2);
  const lsn = parseLsn(recptr ?? '');
  const timeline = integer(tli ?? '', 'timeline');
  if (lsn === undefined || timeline < 1 || timeline > 0xffff_ffff) throw badRow('position', row);
  return { lsn, timeline };
}

export function encodeTablespace(row: TablespaceRow): TextRow {
  return [
    row.oid === undefined ? null : String(row.oid),
    row.location ?? null,
    row.sizeKilobytes === undefined ? null : String(row.sizeKilobytes),
  ];
}

export function decodeTablespace(row: TextRow): TablespaceRow {
  const [oid, location, size] = columns(row, 3);
  if ((oid === null) !== (location === null)) throw badRow('tablespace', row);
  if (location !== null && Buffer.byteLength(location) > MAX_PATH_BYTES) throw badRow('tablespace', row);
  return {
    oid: oid === null ? undefined : tablespaceOid(oid),
    location: location ?? undefined,
    sizeKilobytes: size === null ? undefined : integer(size, 'size'),
  };
}

export function encodeLabel(row: LabelRow): TextRow {
  return [row.label, row.tablespaceMap ?? null];
}

export function decodeLabel(row: TextRow): LabelRow {
  const [label, tablespaceMap] = columns(row, 2);
  if (label === null || label.length > MAX_LABEL_BYTES) throw badRow('label', row);
  return { label, tablespaceMap: tablespaceMap ?? undefined };
}

const TYPE_CODES: Readonly<Record<ListedType, string>> = { file: 'f', directory: 'd', link: 'l' };
const TYPES_BY_CODE = new Map<string, ListedType>([
  ['f', 'file'],
  ['d', 'directory'],
  ['l', 'link'],
]);

export function encodeListedFile(file: ListedFile): TextRow {
  return [file.path, TYPE_CODES[file.type], String(file.size), String(file.mtime)];
}

export function decodeListedFile(row: TextRow): ListedFile {
  const [path, code, size, mtime] = columns(row, 4);
  const type = TYPES_BY_CODE.get(code ?? '');
  if (path === null || type === undefined || Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw badRow('file list', row);
  }
  return { path, type, size: integer(size ?? '', 'size'), mtime: integer(mtime ?? '', 'mtime') };
}

type Cell = string | null;

function columns(row: TextRow, count: 2): [Cell, Cell];
function columns(row: TextRow, count: 3): [Cell, Cell, Cell];
function columns(row: TextRow, count: 4): [Cell, Cell, Cell, Cell];
function columns(row: TextRow, count: number): Cell[] {
  if (row.length !== count) throw badRow('result', row);
  return [...row];
}

function tablespaceOid(text: string): number {
  const oid = integer(text, 'tablespace oid');
  if (oid < 1 || oid > 0xffff_ffff) throw badRow('tablespace', [text]);
  return oid;
}

function integer(text: string, what: string): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new ConvoyError('untrusted_peer', `invalid ${what} in the server's answer: "${text.slice(0, 40)}"`);
  }
  return value;
}

function badRow(what: string, row: TextRow): ConvoyError {
  const shown = row.map((value) => (value === null ? 'NULL' : `"${value.slice(0, 60)}"`)).join(', ');
  return new ConvoyError('untrusted_peer', `invalid ${what} row in the server's answer: ${shown}`);
}
