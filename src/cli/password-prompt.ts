/* Asks for a password on the terminal, without showing it (simple_prompt in PostgreSQL's src/common/sprompt.c). */
import { closeSync, openSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { ConvoyError } from '../errors.js';

const CONTROL_C = '\u0003';
const CONTROL_D = '\u0004';
const BACKSPACES = new Set(['\b', '\u007f']);

export function canPrompt(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r+'));
    return true;
  } catch {
    return false;
  }
}

/** @throws ConvoyError `cancelled` on Ctrl-C, `connection_settings` without a terminal */
export async function promptPassword(prompt: string): Promise<string> {
  if (!canPrompt()) throw new ConvoyError('connection_settings', 'no terminal to ask for the password on');
  const terminal = new ReadStream(openSync('/dev/tty', 'r'));
  // first, since whoever sees the prompt may begin to type
  terminal.setRawMode(true);
  try {
    process.stderr.write(prompt);
    let typed: string[] = [];
    for await (const chunk of terminal) {
      for (const character of String(chunk)) {
        if (character === '\r' || character === '\n') return typed.join('');
        if (character === CONTROL_C || character === CONTROL_D)
          throw new ConvoyError('cancelled', 'interrupted');
        typed = BACKSPACES.has(character) ? typed.slice(0, -1) : [...typed, character];
      }
    }
    return typed.join('');
  } finally {
    terminal.setRawMode(false);
    terminal.destroy();
    process.stderr.write('\n');
  }
}
