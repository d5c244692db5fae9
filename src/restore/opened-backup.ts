/*
 * A backup as restore.ts begins with it: what it consists of, and its manifest where that can be read beforehand.
 */
import { ConvoyError, isSystemError } from '../errors.js';
import { MANIFEST_PATH, type BackupManifest } from '../manifest/manifest.js';
import { readManifest } from '../manifest/read-manifest.js';
import { findBackup, type FinishedBackup } from '../target/finished-backup.js';
import { statSync } from 'node:fs';
import { listContent, type BackupContent } from './backup-content.js';
import type { FileToRestore } from './messages.js';
import type { RestoreOptions } from './restore-options.js';
import { openStream, type StreamedArchive } from './streamed-archive.js';

export interface OpenedBackup {
  readonly content: BackupContent;
  /** Undefined: it is in the archive itself and known when that is restored, or is not wanted. */
  readonly manifest: BackupManifest | undefined;
  /** The archive that comes as a stream and holds everything. */
  readonly stream: StreamedArchive | undefined;
}

const NOTHING_KNOWN: BackupContent = {
  files: [],
  directories: [],
  tablespaces: [],
  archives: [],
  rootMode: undefined,
};

/** @throws ConvoyError `file_damaged`, `target_io` */
export async function openBackup({ backup, verify }: RestoreOptions): Promise<OpenedBackup> {
  if (backup.kind === 'stream') {
    return { content: NOTHING_KNOWN, manifest: undefined, stream: await openStream(backup.bytes) };
  }
  const found = findBackup(backup.path);
  const manifest =
    verify === 'nothing' || found.kind === 'stream'
      ? undefined
      : readManifestOf(`${found.directory}/${MANIFEST_PATH}`);
  const content = await listContent(found);
  return { content: withManifest(found, content), manifest, stream: undefined };
}

/** @throws ConvoyError `file_damaged`, `target_io` */
export function readManifestOf(path: string): BackupManifest {
  try {
    return readManifest(path);
  } catch (error) {
    if (!(error instanceof ConvoyError) || !isSystemError(error.cause, 'ENOENT')) throw error;
    throw new ConvoyError(error.code, error.message, {
      hint: 'a backup without a manifest can be restored, unverified, with --no-verify',
      cause: error.cause,
    });
  }
}

/** Beside archives it is a file like those inside them. */
function withManifest(backup: FinishedBackup, content: BackupContent): BackupContent {
  if (backup.kind !== 'tar') return content;
  const file = `${backup.directory}/${MANIFEST_PATH}`;
  const stats = statSync(file, { throwIfNoEntry: false });
  if (stats === undefined) return content;
  const manifest: FileToRestore = {
    path: MANIFEST_PATH,
    size: stats.size,
    mode: stats.mode & 0o777,
    mtime: Math.floor(stats.mtimeMs / 1000),
    origin: { file, offset: 0 },
  };
  return { ...content, files: [...content.files, manifest] };
}
