/* The version of this program, for -V and for reports. */
import { readFileSync } from 'node:fs';

/** "0.1.0". */
export function programVersion(): string {
  const packageFile = new URL(import.meta.resolve('#package'));
  const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string };
  return version;
}
