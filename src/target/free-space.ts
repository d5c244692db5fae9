/* Is there room for a backup? Asked by `pgconvoy check`, and before the first byte is copied. */
import { statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError, isSystemError } from '../errors.js';

/** Bytes that will be written below a directory. */
export interface SpaceNeed {
  readonly directory: string;
  readonly bytes: number;
}

/**
 * File systems whose free bytes say little about what fits (statfs(2)): those that compress (zfs, btrfs), and those
 * that may, or have quotas, on the other side (nfs, cifs, smb2, fuse).
 */
const UNTOLD_TYPES: ReadonlySet<number> = new Set([
  0x2fc12fc1, 0x9123683e, 0x6969, 0xff534d42, 0xfe534d42, 0x65735546,
]);

/** @throws ConvoyError `target_refused` where the needs of a file system are more than what is free there */
export function refuseUnlessRoom(needs: readonly SpaceNeed[]): void {
  const byDevice = new Map<number, { directory: string; bytes: number }>();
  for (const { directory, bytes } of needs) {
    const existing = existingParent(directory);
    const { dev } = statSync(existing);
    const sum = byDevice.get(dev);
    if (sum === undefined) byDevice.set(dev, { directory: existing, bytes });
    else sum.bytes += bytes;
  }
  for (const { directory, bytes } of byDevice.values()) {
    const { type, bavail, bsize } = statfsSync(directory);
    const free = bavail * bsize;
    if (bytes <= free || UNTOLD_TYPES.has(type)) continue;
    throw new ConvoyError(
      'target_refused',
      `not enough free space at "${directory}": ${inMegabytes(bytes)} are needed, ${inMegabytes(free)} are free`,
    );
  }
}

function existingParent(directory: string): string {
  for (let at = directory; ; at = path.dirname(at)) {
    try {
      statSync(at);
      return at;
    } catch (error) {
      if (!isSystemError(error, 'ENOENT') || at === path.dirname(at))
        throw fileError('access directory', at, error);
    }
  }
}

function inMegabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1024 / 1024)} MB`;
}
