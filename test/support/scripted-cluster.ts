/*
 * A small made-up cluster behind a ScriptedServer that speaks the parallel backup commands as PROTOCOL says. Tests take its honest
 * answers and spoil them. Tar members come from tar-stream, messages from scripted-server.ts.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { crc32c } from '@node-rs/crc32';
import { pack, type Header } from 'tar-stream';
import {
  COMPLETE,
  errorMessage,
  COPY_DONE,
  COPY_OUT,
  copyData,
  READY,
  resultSet,
  type ScriptedSession,
} from './scripted-server.js';

export const SYSTEM_IDENTIFIER = 7_300_000_000_000_000_001n;
export const SEGMENT_BYTES = 1024 * 1024;
export const START_LSN = '0/2000028';
export const STOP_LSN = '0/2000100';
export const SEGMENT_NAME = '000000010000000000000020';
export const TABLESPACE_OID = 16384;
export const VERSION_DIRECTORY = 'PG_15_202209061';
export const MTIME = 1_700_000_000;

export const BACKUP_LABEL = `START WAL LOCATION: ${START_LSN} (file ${SEGMENT_NAME})
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-01-02 03:04:05 UTC
LABEL: scripted
START TIMELINE: 1
`;

export interface ScriptedFile {
  readonly content: Buffer;
  readonly mode: number;
}

export type TarEntry = Partial<Header> & { readonly name: string; readonly content?: Buffer };

/** Members as they stand in a COPY stream: without the two empty blocks at the end of an archive. */
export async function tarMembers(entries: readonly TarEntry[]): Promise<Buffer> {
  const packer = pack();
  for (const { content = Buffer.alloc(0), ...header } of entries) {
    packer.entry({ mode: 0o600, mtime: new Date(MTIME * 1000), ...header }, content);
  }
  packer.finalize();
  return (await buffer(packer)).subarray(0, -1024);
}

/** A control file whose CRC is right, with this system identifier (ControlFileData of PostgreSQL 15). */
export function controlFile(systemIdentifier = SYSTEM_IDENTIFIER): Buffer {
  const bytes = Buffer.alloc(8192);
  bytes.writeBigUInt64LE(systemIdentifier, 0);
  bytes.writeUInt32LE(1300, 8);
  bytes.writeUInt32LE(202_209_061, 12);
  bytes.writeUInt32LE(1, 48);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 288)), 288);
  return bytes;
}

export class ScriptedCluster {
  /** By the path that lists name: "./base/1/112", or absolute in the tablespace. */
  readonly files: Map<string, ScriptedFile>;
  readonly directories: string[];
  /** Where the one tablespace lies on "the server". */
  readonly tablespace: string;

  constructor(tablespace: string) {
    this.tablespace = tablespace;
    const version = `${tablespace}/${VERSION_DIRECTORY}`;
    const contents: readonly (readonly [string, Buffer | string, number?])[] = [
      ['./PG_VERSION', '15\n'],
      ['./base/1/112', randomBytes(16_384)],
      ['./base/1/113', ''],
      ['./base/5/2600', randomBytes(100_000), 0o640],
      ['./global/1262', randomBytes(8192)],
      ['./postgresql.conf', '# nothing\n', 0o644],
      [`${version}/5/16400`, randomBytes(24_576)],
    ];
    this.files = new Map(
      contents.map(([name, content, mode = 0o600]) => [name, { content: Buffer.from(content), mode }]),
    );
    this.directories = [
      version,
      `${version}/5`,
      ...['base', 'base/1', 'base/5', 'global', 'pg_tblspc', 'pg_wal', 'pg_wal/archive_status'].map(
        (name) => `./${name}`,
      ),
    ];
  }

  /** The honest answer to a command. */
  async answer(command: string): Promise<Buffer> {
    const end = Buffer.concat([COMPLETE, READY]);
    if (command === 'SEND_BACKUP_FILES') return end;
    if (command === 'IDENTIFY_SYSTEM') {
      return Buffer.concat([resultSet([[String(SYSTEM_IDENTIFIER), '1', START_LSN, null]]), end]);
    }
    if (command === 'SHOW wal_segment_size') return Buffer.concat([resultSet([['1MB']]), end]);
    if (command === 'SHOW data_directory_mode') return Buffer.concat([resultSet([['0700']]), end]);
    if (command.startsWith('SHOW ')) {
      return Buffer.concat([errorMessage('42704', 'unrecognized configuration parameter'), READY]);
    }
    if (command.startsWith('CREATE_REPLICATION_SLOT')) {
      return Buffer.concat([resultSet([['slot', START_LSN, null, null]]), end]);
    }
    if (command.startsWith('START_BACKUP')) return Buffer.concat([...this.#start(), end]);
    if (command === 'SEND_BACKUP_FILELIST') return Buffer.concat([...this.lists(), COMPLETE, end]);
    if (command.startsWith('SEND_BACKUP_FILES (')) {
      return copy(await tarMembers(this.members(pathsIn(command))), COMPLETE, READY);
    }
    if (command.startsWith('STOP_BACKUP')) {
      const stream = await tarMembers(this.stopMembers(/ WAL\b/.test(command)));
      return copy(stream, resultSet([[STOP_LSN, '1']]), COMPLETE, end);
    }
    throw new Error(`unexpected command: ${command}`);
  }

  #start(): Buffer[] {
    const tablespaces = [
      [String(TABLESPACE_OID), this.tablespace, null],
      [null, null, null],
    ];
    const sets = [resultSet([[START_LSN, '1']]), resultSet(tablespaces), resultSet([[BACKUP_LABEL, null]])];
    return sets.flatMap((set) => [set, COMPLETE]);
  }

  /** The two result sets of the file list: the tablespace's, the data directory's with `more` rows at its end. */
  lists(...more: readonly (readonly string[])[]): Buffer[] {
    const time = String(MTIME);
    const rows = [
      ...this.directories.map((name) => [name, 'd', '-1', time]),
      ...[...this.files].map(([name, { content }]) => [name, 'f', String(content.length), time]),
      [`./pg_tblspc/${TABLESPACE_OID}`, 'l', '8', time],
    ];
    const isInTablespace = ([name]: readonly string[]): boolean => name?.startsWith('/') === true;
    return [
      resultSet(rows.filter(isInTablespace), 4),
      resultSet([...rows.filter((row) => !isInTablespace(row)), ...more], 4),
    ];
  }

  /** Members for the paths that a command asks for; a path that is not there has none. */
  members(paths: readonly string[]): TarEntry[] {
    return paths.flatMap((asked): TarEntry[] => {
      const name = asked.startsWith('./') ? asked.slice(2) : path.relative(this.tablespace, asked);
      const file = this.files.get(asked);
      if (file !== undefined) return [{ name, content: file.content, mode: file.mode }];
      if (this.directories.includes(asked)) return [{ name: `${name}/`, type: 'directory', mode: 0o700 }];
      return [];
    });
  }

  stopMembers(withWal: boolean): TarEntry[] {
    const control = { name: 'global/pg_control', content: controlFile() };
    if (!withWal) return [control];
    return [
      control,
      { name: `pg_wal/${SEGMENT_NAME}`, content: Buffer.alloc(SEGMENT_BYTES, 'wal') },
      { name: `pg_wal/archive_status/${SEGMENT_NAME}.done` },
    ];
  }

  /** A script that is honest but for what `spoil` answers itself (then it returns true). */
  script(spoil: (command: string, session: ScriptedSession) => Promise<boolean> | boolean = () => false) {
    return {
      query: async (command: string, session: ScriptedSession): Promise<void> => {
        if (!(await spoil(command, session))) await session.write(await this.answer(command));
      },
    };
  }
}

/** The strings of a command's list. */
export function pathsIn(command: string): string[] {
  const list = /\((.*)\)/s.exec(command)?.[1] ?? '';
  return [...list.matchAll(/'((?:[^']|'')*)'/g)].map(([, text = '']) => text.replaceAll("''", "'"));
}

/** A COPY of this stream, in pieces of the size that the patched server has, and what follows it. */
export function copy(stream: Buffer, ...after: readonly Buffer[]): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < stream.length; at += 32_768) pieces.push(copyData(stream.subarray(at, at + 32_768)));
  return Buffer.concat([COPY_OUT, ...pieces, COPY_DONE, ...after]);
}
