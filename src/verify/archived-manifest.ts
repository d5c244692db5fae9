/*
 * The manifest of a backup that is one tar file with everything in it, as `-D -` writes it: it is a member of the
 * archive. Called by verify.ts.
 */
import { ConvoyError } from '../errors.js';
import { MANIFEST_PATH, type BackupManifest } from '../manifest/manifest.js';
import { ManifestReading } from '../manifest/read-manifest.js';
import { readArchive } from '../target/archive-reader.js';
import type { BackupArchive } from '../target/finished-backup.js';

/** Reads the archive to its end: nothing but the manifest is kept. @throws ConvoyError */
export async function readArchivedManifest(archive: BackupArchive): Promise<BackupManifest> {
  let reading: ManifestReading | undefined;
  let isOpen = false;
  await readArchive(archive, {
    begin: ({ path }) => {
      isOpen = path === MANIFEST_PATH;
      if (isOpen) reading = new ManifestReading();
    },
    data: (chunk) => {
      if (isOpen) reading?.push(chunk);
      return undefined;
    },
    end: () => {
      isOpen = false;
    },
  });
  if (reading === undefined) {
    throw new ConvoyError('file_damaged', `there is no "${MANIFEST_PATH}" in archive "${archive.name}"`);
  }
  return reading.end();
}
