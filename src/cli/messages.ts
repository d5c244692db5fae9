/* Messages to the user, on standard error, in the form of PostgreSQL's programs (src/common/logging.c). */

/** What a server sent may end up here: nothing of it reaches the terminal as a control sequence. */
function print(text: string): void {
  const plain = text.replaceAll(/\p{Cc}/gu, (control) =>
    control === '\n' || control === '\t' ? control : '?',
  );
  process.stderr.write(`pgconvoy: ${plain}\n`);
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
