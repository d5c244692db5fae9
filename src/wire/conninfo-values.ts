/*
 * The value of every connection option that is set anywhere, gathered in libpq's order, and how the text of a
 * value is read. Made by conninfo.ts from what was asked for. After GetConnection of
 * src/bin/pg_basebackup/streamutil.c, conninfo_add_defaults and pqParseIntParam of fe-connect.c.
 */
import { ConvoyError } from '../errors.js';
import { CONNECTION_OPTIONS } from './conninfo-options.js';
import { parseConnectionString } from './conninfo-string.js';
import type { ConnectionRequest } from './conninfo.js';
import { findService } from './service-file.js';

export class OptionValues {
  readonly #values = new Map<string, { readonly value: string; readonly origin: string }>();

  /** @throws ConvoyError `connection_settings`: a malformed string or file, an option that is not supported */
  constructor(request: ConnectionRequest) {
    this.#collectExplicit(request);
    this.#collectService(request);
    this.#collectEnvironment(request.environment);
    this.#refuseUnsupported();
  }

  /** The value, undefined where it is not set or empty. */
  text(keyword: string): string | undefined {
    const value = this.#values.get(keyword)?.value;
    return value === '' ? undefined : value;
  }

  /** Where the option was set, for a hint. */
  origin(keyword: string): string {
    return `it is set by ${this.#values.get(keyword)?.origin ?? 'default'}`;
  }

  /** @throws ConvoyError `connection_settings` for any other value */
  oneOf<Value extends string>(keyword: string, allowed: readonly Value[]): Value | undefined {
    const text = this.text(keyword);
    if (text === undefined) return undefined;
    return (
      allowed.find((value) => value === text) ?? this.#fail(keyword, `invalid ${keyword} value: "${text}"`)
    );
  }

  /** As strtol with white space allowed on both sides, within 32 bits. */
  integer(keyword: string): number | undefined {
    const text = this.text(keyword);
    return text === undefined ? undefined : this.parseInteger(keyword, text);
  }

  /** As integer(), for one element of a list. */
  parseInteger(keyword: string, text: string): number {
    const value = /^[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*$/.test(text) ? Number(text) : NaN;
    if (value >= -(2 ** 31) && value < 2 ** 31) return value;
    return this.#fail(keyword, `invalid integer value "${text}" for connection option "${keyword}"`);
  }

  #fail(keyword: string, message: string): never {
    throw new ConvoyError('connection_settings', message, { hint: this.origin(keyword) });
  }

  /** As pg_basebackup: an empty value in the connection string or an option is the same as none. */
  #collectExplicit({ dbname, host, port, user }: ConnectionRequest): void {
    for (const [keyword, value] of parseConnectionString(dbname ?? '')) {
      if (value !== '') this.#values.set(keyword, { value, origin: 'the connection string' });
    }
    for (const [keyword, value] of Object.entries({ host, port, user })) {
      if (value === undefined || value === '') continue;
      this.#values.set(keyword, { value: String(value), origin: 'a command-line option' });
    }
  }

  /** An empty value in a service file keeps the environment's out, as in libpq. */
  #collectService(request: ConnectionRequest): void {
    const service = this.text('service') ?? request.environment['PGSERVICE'] ?? '';
    if (service === '') return;
    for (const [keyword, value] of findService(service, request)) {
      if (!this.#values.has(keyword)) this.#values.set(keyword, { value, origin: `service "${service}"` });
    }
  }

  #collectEnvironment(environment: ConnectionRequest['environment']): void {
    for (const [keyword, { environmentVariable }] of CONNECTION_OPTIONS) {
      if (environmentVariable === undefined || this.#values.has(keyword)) continue;
      const value = environment[environmentVariable];
      if (value === undefined) continue;
      this.#values.set(keyword, { value, origin: `environment variable ${environmentVariable}` });
    }
    if (!this.#values.has('sslmode') && environment['PGREQUIRESSL']?.startsWith('1') === true) {
      this.#values.set('sslmode', { value: 'require', origin: 'environment variable PGREQUIRESSL' });
    }
  }

  #refuseUnsupported(): void {
    for (const [keyword, { value }] of this.#values) {
      const use = CONNECTION_OPTIONS.get(keyword)?.use;
      if (value === '' || use?.kind !== 'refused' || use.except.includes(value)) continue;
      const except = use.except.map((one) => `"${one}"`).join(' and ');
      this.#fail(
        keyword,
        `connection option "${keyword}" is not supported yet${except === '' ? '' : `, other than as ${except}`}`,
      );
    }
  }
}
