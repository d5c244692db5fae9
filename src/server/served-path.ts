/*
 * Which paths SEND_BACKUP_FILES may name: those that the file list could contain, and no others. Names are judged
 * here, before anything is opened; what lies at a path is judged by served-file.ts.
 * Rules: PROTOCOL "What `serve` does better"; pgdata/listed-path.ts.
 */
import { ConvoyError } from '../errors.js';
import { MAX_PATH_BYTES } from '../limits.js';
import { isPlainRelativePath, whyNotListed } from '../pgdata/listed-path.js';
import type { ServedCluster } from './served-cluster.js';
import type { ServedTablespace } from './tablespaces.js';

export interface ServedPath {
  /** As the client wrote it. */
  readonly asked: string;
  /** The data directory, or a tablespace's location. */
  readonly root: string;
  /** The same without symbolic links. */
  readonly realRoot: string;
  /** Below the root: "base/1/112", "PG_15_202209061/16385/16408". */
  readonly relative: string;
  readonly isInTablespace: boolean;
}

export class PathRules {
  readonly #cluster: ServedCluster;
  readonly #tablespaces: readonly ServedTablespace[];

  constructor(cluster: ServedCluster, tablespaces: readonly ServedTablespace[]) {
    this.#cluster = cluster;
    this.#tablespaces = tablespaces;
  }

  /** @throws ConvoyError 22023 for what is no path of a list, 42501 for one that no list contains */
  resolve(asked: string): ServedPath {
    if (Buffer.byteLength(asked) > MAX_PATH_BYTES || asked.includes('\0')) throw malformed(asked);
    if (asked.startsWith('./')) return this.#inDataDirectory(asked, asked.slice(2));
    if (asked.startsWith('/')) return this.#inTablespace(asked);
    throw malformed(asked);
  }

  #inDataDirectory(asked: string, relative: string): ServedPath {
    assertListed(asked, relative);
    const { dataDirectory } = this.#cluster;
    const inside = this.#tablespaces.find(
      ({ realLocation }) =>
        realLocation !== undefined && `${dataDirectory}/${relative}`.startsWith(`${realLocation}/`),
    );
    if (inside !== undefined) throw refused(asked, `it belongs to tablespace ${inside.oid}`);
    return { asked, root: dataDirectory, realRoot: dataDirectory, relative, isInTablespace: false };
  }

  #inTablespace(asked: string): ServedPath {
    const { versionDirectory } = this.#cluster;
    for (const { location, realLocation } of this.#tablespaces) {
      if (realLocation === undefined || !asked.startsWith(`${location}/`)) continue;
      const relative = asked.slice(location.length + 1);
      if (relative !== versionDirectory && !relative.startsWith(`${versionDirectory}/`)) continue;
      assertListed(asked, relative);
      return { asked, root: location, realRoot: realLocation, relative, isInTablespace: true };
    }
    throw refused(asked, 'it does not lie in a tablespace of this server');
  }
}

function assertListed(asked: string, relative: string): void {
  if (!isPlainRelativePath(relative)) throw malformed(asked);
  const reason = whyNotListed(relative);
  if (reason !== undefined) throw refused(asked, reason);
}

function malformed(asked: string): ConvoyError {
  const shown = Buffer.byteLength(asked) > MAX_PATH_BYTES ? `${asked.slice(0, 100)}...` : asked;
  return new ConvoyError('serve_refused', `invalid path in SEND_BACKUP_FILES: "${shown}"`, {
    hint: 'name the files as SEND_BACKUP_FILELIST does',
    sqlState: '22023',
  });
}

/** For a path that is well formed and not served. */
export function refused(asked: string, reason: string): ConvoyError {
  const message = `"${asked}" is not part of a base backup: ${reason}`;
  return new ConvoyError('serve_refused', message, { sqlState: '42501' });
}
