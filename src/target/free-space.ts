/* Is there room for a backup? Asked by `pgconvoy check`, and before the first byte is copied. */
import { statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { ConvoyError, fileError, isSystemError } from '../errors.js';

/** Bytes that will be written below a directory. */
export interface SpaceNeed {
  readonly directory: string;
  readonly bytes: number;
}

/** File systems that compress: the bytes of the files say little about the space that they take (statfs(2)). */
const COMPRESSING_TYPES: ReadonlySet<number> = new Set([0x2fc12fc1, 0x9123683e]);

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
    if (bytes <= free || COMPRESSING_TYPES.has(type)) continue;
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
