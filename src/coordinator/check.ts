/*
 * `pgconvoy check`: would a backup over plain SQL work? Asks the server for each need of the sql source, and the target
 * for room.
 */
import { asConvoyError } from '../errors.js';
import type { ConnectionSettings } from '../source/open-source.js';
import { grantScript, type Requirement } from '../source/sql-requirements.js';
import { SqlInspection } from '../source/sql-inspection.js';
import { refuseUnlessEmpty } from '../target/directory-target.js';
import { refuseUnlessRoom } from '../target/free-space.js';

export interface CheckOptions {
  readonly connection: ConnectionSettings;
  readonly askPassword: (() => Promise<string>) | undefined;
  readonly jobs: number;
  /** Undefined: no target is looked at. */
  readonly directory: string | undefined;
  readonly signal: AbortSignal;
}

/** @throws ConvoyError `connection_failed`, `server_unsupported` */
export async function checkServer(options: CheckOptions): Promise<Requirement[]> {
  await using inspection = await SqlInspection.open(options);
  const requirements = await inspection.requirements({ jobs: options.jobs, includeWal: true });
  const { directory } = options;
  if (directory === undefined) return requirements;
  const mayRead = requirements.every(({ isMet, isNeeded }) => isMet || !isNeeded);
  return [...requirements, checkTarget(directory, mayRead ? await inspection.clusterBytes() : 0)];
}

/** The grants that `role` needs on this server. @throws ConvoyError `connection_failed` */
export async function printableGrants(options: CheckOptions, role: string): Promise<string> {
  await using inspection = await SqlInspection.open(options);
  return grantScript(inspection.major, role, inspection.database);
}

function checkTarget(directory: string, bytes: number): Requirement {
  const name = 'target';
  try {
    refuseUnlessEmpty(directory);
    refuseUnlessRoom([{ directory, bytes }]);
    return {
      name,
      isMet: true,
      isNeeded: true,
      finding: `room for ${Math.ceil(bytes / 1024 / 1024)} MB at "${directory}"`,
    };
  } catch (error) {
    const { message, hint } = asConvoyError(error, 'target_io');
    return { name, isMet: false, isNeeded: true, finding: message, remedy: hint };
  }
}
