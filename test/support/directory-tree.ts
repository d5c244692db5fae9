/* What lies in a directory, down to the bytes, to be compared with another. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';

export interface TreeEntry {
  readonly type: 'file' | 'directory' | 'link';
  /** Permission bits, in octal. */
  readonly mode: string;
  /** SHA-256 of a file, target of a link. */
  readonly content: string;
}

/** Everything below a directory by its relative path, itself as "."; links are not followed. */
export async function readTree(root: string): Promise<Map<string, TreeEntry>> {
  const names = await fs.readdir(root, { recursive: true });
  const tree = new Map<string, TreeEntry>();
  for (const name of ['.', ...names].toSorted()) {
    const at = path.join(root, name);
    const stats = await fs.lstat(at);
    const mode = (stats.mode & 0o7777).toString(8);
    if (stats.isSymbolicLink()) tree.set(name, { type: 'link', mode, content: await fs.readlink(at) });
    else if (stats.isDirectory()) tree.set(name, { type: 'directory', mode, content: '' });
    else tree.set(name, { type: 'file', mode, content: await sha256(at) });
  }
  return tree;
}

async function sha256(file: string): Promise<string> {
  return createHash('sha256')
    .update(await fs.readFile(file))
    .digest('hex');
}
