/* The version of this program, for -V and for reports. */
import { readFileSync } from 'node:fs';

/** "0.1.0". */
export function programVersion(): string {
  const packageFile = new URL('../../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string };
  return version;
}
