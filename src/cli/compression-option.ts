/*
 * -Z [{client|server}-]METHOD[:DETAIL], with the words of pg_basebackup: parse_compress_options of
 * src/bin/pg_basebackup/pg_basebackup.c, parse_compress_specification of src/common/compression.c.
 * Every function throws ConvoyError `usage`.
 */
import { ConvoyError } from '../errors.js';
import {
  COMPRESSION_METHODS,
  NO_COMPRESSION,
  type Compression,
  type CompressionMethod,
} from '../target/compression/compression.js';

export interface RequestedCompression extends Compression {
  /** A number of threads was given, which has no effect: -j says how many compress. */
  readonly hasWorkers: boolean;
}

interface Levels {
  readonly least: number;
  readonly most: number;
  /** As PostgreSQL names it; it may be given, too. */
  readonly standard: number;
}

const LEVELS: Readonly<Record<Exclude<CompressionMethod, 'none'>, Levels>> = {
  gzip: { least: 1, most: 9, standard: -1 },
  lz4: { least: 1, most: 12, standard: 0 },
  zstd: { least: -131_072, most: 22, standard: 3 },
};

/** lz4's fast mode; liblz4 takes levels below 3 for it, too. The others are its high compression mode. */
const MOST_FAST_LZ4_LEVEL = 2;

function usage(message: string, hint?: string): ConvoyError {
  return new ConvoyError('usage', message, { hint });
}

function invalid(reason: string): ConvoyError {
  return usage(`invalid compression specification: ${reason}`);
}

/** -z */
const PLAIN_GZIP: RequestedCompression = {
  method: 'gzip',
  level: undefined,
  hasWorkers: false,
};

/** What -z and -Z say together. */
export function requestedCompression(flags: {
  readonly gzip?: boolean;
  readonly compress?: RequestedCompression;
}): RequestedCompression | undefined {
  return flags.compress ?? (flags.gzip === true ? PLAIN_GZIP : undefined);
}

export function parseCompression(text: string): RequestedCompression {
  const [, where, specification = ''] = /^(client-|server-)?(.*)$/s.exec(text) ?? [];
  if (where === 'server-') {
    throw usage(
      `cannot compress on the server: "${text}"`,
      'the workers compress, each the files that it copies: write it without "server-"',
    );
  }
  if (where === undefined && /^\s*[+-]?\d+$/.test(specification)) {
    // a level alone means gzip, and 0 nothing at all
    if (Number(specification) === 0) return { ...PLAIN_GZIP, ...NO_COMPRESSION };
    return { ...PLAIN_GZIP, level: checkLevel('gzip', Number(specification)) };
  }
  const colon = specification.indexOf(':');
  const name = colon < 0 ? specification : specification.slice(0, colon);
  const method = COMPRESSION_METHODS.find((candidate) => candidate === name);
  if (method === undefined) throw usage(`unrecognized compression algorithm: "${name}"`);
  const detail = colon < 0 ? undefined : specification.slice(colon + 1);
  return { method, ...parseDetail(method, detail) };
}

function parseDetail(
  method: CompressionMethod,
  detail: string | undefined,
): Pick<RequestedCompression, 'level' | 'hasWorkers'> {
  let level: number | undefined;
  let hasWorkers = false;
  if (detail === undefined) return { level, hasWorkers };
  if (/^\s*[+-]?\d+$/.test(detail)) return { level: checkLevel(method, Number(detail)), hasWorkers };
  for (const option of detail.split(',')) {
    const equals = option.indexOf('=');
    const key = equals < 0 ? option : option.slice(0, equals);
    const value = equals < 0 ? undefined : option.slice(equals + 1);
    switch (key) {
      case '':
        throw invalid('found empty string where a compression option was expected');
      case 'level':
        level = checkLevel(method, parseInteger(key, value));
        break;
      case 'workers':
        parseInteger(key, value);
        if (method !== 'zstd')
          throw invalid(`compression algorithm "${method}" does not accept a worker count`);
        hasWorkers = true;
        break;
      case 'long':
        throw invalid(
          method === 'zstd'
            ? 'long-distance mode is not supported: what is compressed at once is 1 MB'
            : `compression algorithm "${method}" does not support long-distance mode`,
        );
      default:
        throw invalid(`unrecognized compression option: "${key}"`);
    }
  }
  return { level, hasWorkers };
}

function parseInteger(key: string, value: string | undefined): number {
  if (value === undefined) throw invalid(`compression option "${key}" requires a value`);
  if (!/^\s*[+-]?\d+$/.test(value)) throw invalid(`value for compression option "${key}" must be an integer`);
  return Number(value);
}

/** @returns undefined for the standard level */
function checkLevel(method: CompressionMethod, level: number): number | undefined {
  if (method === 'none') throw invalid('compression algorithm "none" does not accept a compression level');
  const { least, most, standard } = LEVELS[method];
  if (level === standard || (method === 'zstd' && level === 0)) return undefined;
  if (level < least || level > most) {
    throw invalid(
      `compression algorithm "${method}" expects a compression level between ${least} and ${most} (default at ${standard})`,
    );
  }
  if (method === 'lz4' && level > MOST_FAST_LZ4_LEVEL) {
    throw usage(
      `lz4 has no level ${level} here: only its fast mode is supported (levels 1 and 2)`,
      'zstd compresses better than lz4 at its high levels, and faster',
    );
  }
  return level;
}
