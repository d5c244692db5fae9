/*
 * Where `serve` listens: "ADDR:PORT", "[IPv6]:PORT" or the path of a Unix-domain socket. Parsed by cli/serve.ts.
 */
import { BlockList, isIP } from 'node:net';
import { ConvoyError } from '../errors.js';

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** @throws ConvoyError `usage` */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('/')) return { kind: 'unix', path: text };
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3] ?? Number.NaN);
  const isBracketed = match?.[1] !== undefined;
  if (!(port <= 65_535) || host === '' || (isBracketed && isIP(host) !== 6)) {
    throw new ConvoyError('usage', `invalid listen address: "${text}"`, {
      hint: 'it is ADDRESS:PORT, [IPv6]:PORT, or the absolute path of a Unix-domain socket',
    });
  }
  // as in listen_addresses
  return { kind: 'tcp', host: host === '*' ? '::' : host, port };
}

/** True where nobody on another machine can connect. */
export function isLocal(address: ListenAddress): boolean {
  if (address.kind === 'unix' || address.host === 'localhost') return true;
  const family = isIP(address.host);
  return family !== 0 && LOOPBACK.check(address.host, family === 4 ? 'ipv4' : 'ipv6');
}

/** As parseListenAddress() reads it. */
export function formatListenAddress(address: ListenAddress): string {
  if (address.kind === 'unix') return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
