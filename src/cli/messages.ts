/* Messages to the user, on standard error, in the form of PostgreSQL's programs (src/common/logging.c). */

function print(text: string): void {
  process.stderr.write(`pgconvoy: ${text}\n`);
}

export function printError(message: string): void {
  print(`error: ${message}`);
}

export function printWarning(message: string): void {
  print(`warning: ${message}`);
}

export function printHint(message: string): void {
  print(`hint: ${message}`);
}

/** What -v shows. */
export function printDetail(message: string): void {
  print(message);
}
