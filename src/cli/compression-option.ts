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

/** What is taken and has no effect. */
interface Ineffective {
  /** A number of threads was given: -j says how many compress. */
  readonly hasWorkers: boolean;
  /** zstd was to look far back: what is compressed at once is short. */
  readonly hasLongDistance: boolean;
}

export interface RequestedCompression extends Compression, Ineffective {
  /** As it was written. */
  readonly text: string;
  /** Undefined: where the backup goes, which is the server for a backup target. */
  readonly location: 'client' | 'server' | undefined;
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

function usage(message: string, hint?: string): ConvoyError {
  return new ConvoyError('usage', message, { hint });
}

function invalid(reason: string): ConvoyError {
  return usage(`invalid compression specification: ${reason}`);
}

const ALL_EFFECTIVE: Ineffective = { hasWorkers: false, hasLongDistance: false };

/** -z */
const PLAIN_GZIP: RequestedCompression = {
  method: 'gzip',
  level: undefined,
  ...ALL_EFFECTIVE,
  text: '-z',
  location: undefined,
};

/** What -z and -Z say together. */
export function requestedCompression(flags: {
  readonly gzip?: boolean;
  readonly compress?: RequestedCompression;
}): RequestedCompression | undefined {
  return flags.compress ?? (flags.gzip === true ? PLAIN_GZIP : undefined);
}

/**
 * Compression on the server: asked for as such, or because a backup target leaves nothing to compress here.
 *
 * @throws ConvoyError `usage`
 */
export function refuseServerCompression(
  compression: RequestedCompression | undefined,
  hasBackupTarget: boolean,
): void {
  if (compression === undefined) return;
  const { method, location, text } = compression;
  const isOnServer = location === 'server' || (hasBackupTarget && method !== 'none');
  if (!isOnServer) return;
  throw usage(
    `cannot compress on the server: "${text}"`,
    hasBackupTarget
      ? 'the workers compress what they write, and with a backup target they write nothing'
      : 'the workers compress, each the files that it copies: write it without "server-"',
  );
}

export function parseCompression(text: string): RequestedCompression {
  const [, where, specification = ''] = /^(?:(client|server)-)?(.*)$/s.exec(text) ?? [];
  // refused later, once all options are held against each other; the rest would be the server's to read
  if (where === 'server') return { ...PLAIN_GZIP, ...NO_COMPRESSION, text, location: where };
  const location = where === 'client' ? where : undefined;
  if (where === undefined && /^\s*[+-]?\d+$/.test(specification)) {
    // a level alone means gzip, and 0 nothing at all
    if (Number(specification) === 0) return { ...PLAIN_GZIP, ...NO_COMPRESSION, text };
    return { ...PLAIN_GZIP, text, level: checkLevel('gzip', Number(specification)) };
  }
  const colon = specification.indexOf(':');
  const name = colon < 0 ? specification : specification.slice(0, colon);
  const method = COMPRESSION_METHODS.find((candidate) => candidate === name);
  if (method === undefined) throw usage(`unrecognized compression algorithm: "${name}"`);
  const detail = colon < 0 ? undefined : specification.slice(colon + 1);
  return { method, ...parseDetail(method, detail), text, location };
}

/** All is parsed before it is held against what the method takes, as in validate_compress_specification. */
function parseDetail(
  method: CompressionMethod,
  detail: string | undefined,
): Pick<RequestedCompression, 'level' | keyof Ineffective> {
  if (detail === undefined) return { level: undefined, ...ALL_EFFECTIVE };
  if (/^\s*[+-]?\d+$/.test(detail)) return { level: checkLevel(method, Number(detail)), ...ALL_EFFECTIVE };
  let level: number | undefined;
  let workers: number | undefined;
  let long: boolean | undefined;
  for (const option of detail.split(',')) {
    const equals = option.indexOf('=');
    const key = equals < 0 ? option : option.slice(0, equals);
    const value = equals < 0 ? undefined : option.slice(equals + 1);
    switch (key) {
      case '':
        throw invalid('found empty string where a compression option was expected');
      case 'level':
        level = parseInteger(key, value);
        break;
      case 'workers':
        workers = parseInteger(key, value);
        break;
      case 'long':
        long = parseBoolean(key, value);
        break;
      default:
        throw invalid(`unrecognized compression option: "${key}"`);
    }
  }
  const checked = level === undefined ? undefined : checkLevel(method, level);
  if (workers !== undefined && method !== 'zstd') {
    throw invalid(`compression algorithm "${method}" does not accept a worker count`);
  }
  if (long !== undefined && method !== 'zstd') {
    throw invalid(`compression algorithm "${method}" does not support long-distance mode`);
  }
  return { level: checked, hasWorkers: workers !== undefined, hasLongDistance: long === true };
}

/** expect_boolean_value: the name alone says yes. */
function parseBoolean(key: string, value: string | undefined): boolean {
  if (value === undefined || ['yes', 'on', '1'].includes(value)) return true;
  if (['no', 'off', '0'].includes(value)) return false;
  throw invalid(`value for compression option "${key}" must be a Boolean value`);
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
  return level;
}
