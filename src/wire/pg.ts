/*
 * node-postgres. Where there is no `navigator`, as in Node.js 20, it makes a Response to find out whether it runs at
 * Cloudflare, and with that Node.js loads all that fetch is made of: 20 ms of processor time in every thread. So it is
 * loaded while there is no Response either.
 */
import type * as Pg from 'pg';
import { loadCommonJs } from '../load-commonjs.js';

export const pg = withoutResponse(() => loadCommonJs('pg')) as typeof Pg;

function withoutResponse<Loaded>(load: () => Loaded): Loaded {
  // it does not come to that; and newer versions load fetch as soon as Response is looked at
  if ('navigator' in globalThis) return load();
  const response = Object.getOwnPropertyDescriptor(globalThis, 'Response');
  if (response === undefined) return load();
  Object.defineProperty(globalThis, 'Response', { value: undefined, configurable: true });
  try {
    return load();
  } finally {
    Object.defineProperty(globalThis, 'Response', response);
  }
}
