/*
 * Versions of PostgreSQL, as servers print them ("18.4", "19beta1", "15.18 (Debian 15.18-0+deb12u1)").
 */
import { ConvoyError } from './errors.js';

/** The oldest release that pgconvoy reads. */
export const OLDEST_MAJOR = 13;

/** The major version of a server_version text. @throws ConvoyError `server_unsupported` below 13 or where it is none */
export function majorVersionOf(serverVersion: string): number {
  const major = Number(/^\d+/.exec(serverVersion)?.[0] ?? Number.NaN);
  if (!(major >= OLDEST_MAJOR)) {
    throw new ConvoyError(
      'server_unsupported',
      `incompatible server version "${serverVersion.slice(0, 40)}"; PostgreSQL ${OLDEST_MAJOR} or newer is needed`,
    );
  }
  return major;
}
