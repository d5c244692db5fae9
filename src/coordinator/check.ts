/*
 * `pgconvoy check`: would a backup over plain SQL work? Asks the server for each need of the sql source, and the target
 * for room, in the words of the backup that would fail.
 */
import { asConvoyError } from '../errors.js';
import type { ConnectionSettings } from '../source/connection-settings.js';
import type { WalNeed } from '../source/open-source.js';
import { areMet, type Requirement } from '../source/requirement.js';
import { grantScript } from '../source/sql-grants.js';
import { SqlInspection, type ClusterContents } from '../source/sql-inspection.js';
import { isStreamed } from '../source/sql-wal-needs.js';
import { refuseUnlessEmpty } from '../target/directory-target.js';
import { refuseUnlessRoom } from '../target/free-space.js';
import { mapTablespaces, type TablespaceMapping } from '../target/tablespace-mapping.js';
import { openWalConnection } from '../wal/wal-connection.js';
import { spaceNeeds } from './space-needs.js';

export interface CheckOptions {
  readonly connection: ConnectionSettings;
  readonly askPassword: (() => Promise<string>) | undefined;
  readonly jobs: number;
  /** How the WAL is to come along. */
  readonly wal: WalNeed;
  /** Undefined: no target is looked at. */
  readonly target:
    { readonly directory: string; readonly tablespaceMappings: readonly TablespaceMapping[] } | undefined;
  readonly warn: (message: string) => void;
  readonly signal: AbortSignal;
}

/** @throws ConvoyError `connection_failed`, `server_unsupported` */
export async function checkServer(options: CheckOptions): Promise<Requirement[]> {
  await using inspection = await SqlInspection.open(options);
  const requirements = await inspection.requirements(options);
  if (isStreamed(options.wal) && areMet(requirements)) requirements.push(await tryWalConnection(options));
  // what lies on the server can be looked at only by whoever may take a backup
  const contents =
    options.target !== undefined && areMet(requirements) ? await inspection.contents() : undefined;
  return [...requirements, ...checkTarget(options, contents)];
}

/** What pg_hba.conf says of replication shows only when one is opened. */
async function tryWalConnection({ connection, askPassword, signal }: CheckOptions): Promise<Requirement> {
  const name = 'replication connection';
  try {
    await using opened = await openWalConnection(connection, { askPassword, signal });
    return { name, isMet: true, isNeeded: true, finding: `can be opened to ${opened.server}` };
  } catch (error) {
    const { message, hint } = asConvoyError(error, 'connection_failed');
    return { name, isMet: false, isNeeded: true, finding: message, remedy: hint };
  }
}

/** The grants that `role` needs on this server. @throws ConvoyError `connection_failed` */
export async function printableGrants(options: CheckOptions, role: string): Promise<string> {
  await using inspection = await SqlInspection.open(options);
  return grantScript(inspection.major, role, inspection.database);
}

function checkTarget({ target, warn }: CheckOptions, contents: ClusterContents | undefined): Requirement[] {
  if (target === undefined) return [];
  const { directory } = target;
  const files = contents?.files ?? [];
  const tablespaces = mapTablespaces(
    contents?.tablespaces ?? [],
    target.tablespaceMappings,
    'the server',
    warn,
  );
  const roomWith = (walBytes: number): Requirement['finding'] => {
    const needs = spaceNeeds({ directory, tablespaces }, files, walBytes);
    refuseUnlessRoom(needs);
    const bytes = needs.reduce((sum, need) => sum + need.bytes, 0);
    return `room for ${Math.ceil(bytes / 1024 / 1024)} MB at "${directory}"`;
  };
  const empty = judge('target', true, () => {
    for (const root of [directory, ...tablespaces.map(({ location }) => location)]) refuseUnlessEmpty(root);
    return `"${directory}" is empty, or yet to be made`;
  });
  if (contents === undefined) return [empty];
  const { walSegmentBytes, maxWalBytes } = contents;
  return [
    empty,
    judge('free space', true, () => roomWith(walSegmentBytes)),
    // a busy server writes so much while a large backup runs, and more while a very large one does
    judge('free space with max_wal_size of WAL', false, () => roomWith(maxWalBytes)),
  ];
}

function judge(name: string, isNeeded: boolean, finding: () => string): Requirement {
  try {
    return { name, isMet: true, isNeeded, finding: finding() };
  } catch (error) {
    const { message, hint } = asConvoyError(error, 'target_io');
    return { name, isMet: false, isNeeded, finding: message, remedy: hint };
  }
}
