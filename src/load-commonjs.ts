/*
 * Loads a package in CommonJS. Where a module imports one, Node.js reads all of its text for the names of its exports, in
 * every thread that does: for three packages together a quarter of a second of processor time at every start, most of it
 * V8 compiling the reader.
 */
import { createRequire } from 'node:module';

/** @throws Error where the package is not installed, or has no binary for this machine */
export const loadCommonJs: (specifier: string) => unknown = createRequire(import.meta.url);
