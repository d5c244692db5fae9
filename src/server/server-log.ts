/*
 * What `serve` says about its own doings, one line an event, without secrets. The command line decides where the lines
 * go; session processes hand theirs to the primary (process-messages.ts).
 */

export type LogLevel = 'DEBUG' | 'LOG' | 'WARNING' | 'ERROR' | 'FATAL';

/** DEBUG lines are only wanted with --verbose. */
export type ServerLog = (level: LogLevel, text: string) => void;

/** Text of a peer on one line: control characters are shown as "?". */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
