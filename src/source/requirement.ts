/*
 * One need of a backup, met or not, with what mends it: shown by `pgconvoy check`, and asked before every backup, which
 * fails with the same words.
 */
import { ConvoyError } from '../errors.js';

export interface Requirement {
  readonly name: string;
  readonly isMet: boolean;
  /** Not met, it makes a backup fail; others are only worth knowing. */
  readonly isNeeded: boolean;
  /** What was found, one line. */
  readonly finding: string;
  /** SQL, or another step, that mends it. */
  readonly remedy?: string | undefined;
}

/** True where a backup would not fail. */
export function areMet(requirements: readonly Requirement[]): boolean {
  return requirements.every(({ isMet, isNeeded }) => isMet || !isNeeded);
}

/** @throws ConvoyError `server_error` that says all that is missing, and how to mend it */
export function failUnlessMet(requirements: readonly Requirement[]): void {
  const missing = requirements.filter(({ isMet, isNeeded }) => isNeeded && !isMet);
  if (missing.length === 0) return;
  const remedies = missing.flatMap(({ remedy }) => (remedy === undefined ? [] : [remedy]));
  throw new ConvoyError('server_error', missing.map(({ finding }) => finding).join('; '), {
    hint: remedies.length === 0 ? undefined : remedies.join(' '),
  });
}
