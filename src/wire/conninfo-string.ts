/*
 * Parses what `-d` takes: a conninfo string (`host=/tmp user=x`) or a URI (`postgresql://x@host/db`), after
 * conninfo_parse and conninfo_uri_parse_options of src/interfaces/libpq/fe-connect.c (PostgreSQL 18), error
 * texts included. Called by conninfo-values.ts. Where libpq would echo a password, or what may be a piece of one
 * that is not quoted or encoded, `***` stands; URIs that libpq then takes apart in the wrong place are refused.
 */
import { ConvoyError } from '../errors.js';
import { CONNECTION_OPTIONS, isSecretOption } from './conninfo-options.js';

const URI_SCHEMES = ['postgresql://', 'postgres://'];
const HIDDEN = '***';
/** What isspace() takes for white space in the C locale. */
const SPACE = ' \\t\\n\\v\\f\\r';

/**
 * The options that the string names, by keyword; empty values are kept. Defaults are not filled in.
 *
 * @throws ConvoyError `connection_settings` in libpq's words; never with a password in it
 */
export function parseConnectionString(text: string): Map<string, string> {
  const scheme = URI_SCHEMES.find((candidate) => text.startsWith(candidate));
  return scheme === undefined ? parseKeywordValues(text) : parseUri(text, scheme.length);
}

function fail(message: string, hint?: string): never {
  throw new ConvoyError('connection_settings', message, { hint });
}

/** Stores a value the way of conninfo_storeval; false where the keyword does not exist. */
function store(values: Map<string, string>, keyword: string, value: string): boolean {
  if (keyword === 'requiressl') {
    values.set('sslmode', value.startsWith('1') ? 'require' : 'prefer');
    return true;
  }
  if (!CONNECTION_OPTIONS.has(keyword)) return false;
  values.set(keyword, value);
  return true;
}

function parseKeywordValues(text: string): Map<string, string> {
  const values = new Map<string, string>();
  const name = new RegExp(`[${SPACE}]*([^=${SPACE}]*)[${SPACE}]*(=?)[${SPACE}]*`, 'y');
  const quoted = /'((?:\\[^]|[^\\'])*)'/y;
  const unquoted = new RegExp(`((?:\\\\[^]?|[^\\\\${SPACE}])*)`, 'y');
  // A word after an unquoted password is likely the rest of the password.
  let afterSecret = false;
  let at = 0;

  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at = pattern.lastIndex;
    return match;
  };

  while (at < text.length) {
    const [, keyword = '', equals] = take(name) ?? [];
    if (keyword === '' && equals === '' && at === text.length) break;
    const shown = afterSecret ? HIDDEN : shownWord(keyword);
    if (equals === '') fail(`missing "=" after "${shown}" in connection info string`);
    const value = take(text[at] === "'" ? quoted : unquoted);
    if (value === null) fail('unterminated quoted string in connection info string');
    if (!store(values, keyword, (value[1] ?? '').replace(/\\([^]?)/g, '$1'))) {
      fail(`invalid connection option "${shown}"`);
    }
    afterSecret = isSecretOption(keyword);
  }
  return values;
}

/** A word where a keyword should be, without what may be a password: `postgre://me:secret@host`, `password:secret`. */
function shownWord(word: string): string {
  if (/@|pass|secret/i.test(word) && !isSecretOption(word)) return HIDDEN;
  return word.replace(/:(?!\/\/$)[^]+$/, `:${HIDDEN}`);
}

function parseUri(uri: string, schemeLength: number): Map<string, string> {
  const values = new Map<string, string>();
  const storeDecoded = (keyword: string, encoded: string): void => {
    if (encoded !== '') values.set(keyword, decodePercent(encoded, isSecretOption(keyword)));
  };

  const credentials = /[^@/]*@/y;
  credentials.lastIndex = schemeLength;
  const userAndPassword = credentials.exec(uri)?.[0];
  let at = schemeLength;
  if (userAndPassword !== undefined) {
    at += userAndPassword.length;
    const [, user = '', password = ''] = /^([^:@]*):?([^@]*)@$/.exec(userAndPassword) ?? [];
    if (user.includes('?')) {
      fail('unexpected "?" before "@" in URI', 'write "@" in a query parameter as %40');
    }
    storeDecoded('user', user);
    storeDecoded('password', password);
  }

  const { hosts, ports, end } = parseHosts(uri, at);
  const rest = /(?:\/([^?]*))?(?:\?([^]*))?/y;
  rest.lastIndex = end;
  const [, dbname = '', query = ''] = rest.exec(uri) ?? [];
  refuseMisreadPassword(hosts, ports);

  storeDecoded('host', hosts);
  storeDecoded('port', ports);
  storeDecoded('dbname', dbname);
  parseQuery(query, values);
  return values;
}

/** `host[:port][,...]` from `start` on, as two lists; `end` is where the path, the query or nothing follows. */
function parseHosts(uri: string, start: number): { hosts: string; ports: string; end: number } {
  const hosts: string[] = [];
  const ports: string[] = [];
  const host = /[^:/?,]*/y;
  const port = /(?::([^/?,]*))?/y;
  let at = start;
  for (;;) {
    if (uri[at] === '[') {
      const close = uri.indexOf(']', at);
      if (close < 0) {
        fail(
          'end of string reached when looking for matching "]" in IPv6 host address in URI: ' +
            `"${shownUri(uri)}"`,
        );
      }
      if (close === at + 1) fail(`IPv6 host address may not be empty in URI: "${shownUri(uri)}"`);
      hosts.push(uri.slice(at + 1, close));
      at = close + 1;
      const next = uri[at];
      if (next !== undefined && !':/?,'.includes(next)) {
        const position = Buffer.byteLength(uri.slice(0, at)) + 1;
        fail(
          `unexpected character "${next}" at position ${position} in URI (expected ":" or "/"): ` +
            `"${shownUri(uri)}"`,
        );
      }
    } else {
      host.lastIndex = at;
      hosts.push(host.exec(uri)?.[0] ?? '');
      at = host.lastIndex;
    }
    port.lastIndex = at;
    ports.push(port.exec(uri)?.[1] ?? '');
    at = port.lastIndex;
    if (uri[at] !== ',') break;
    at += 1;
  }
  return { hosts: hosts.join(','), ports: ports.join(','), end: at };
}

/**
 * libpq splits a URI at the first "@" or "/", so a password with one of these in it, not percent-encoded, ends
 * up in the host or the port and from there in messages. No host holds "@", no port anything but digits.
 */
function refuseMisreadPassword(hosts: string, ports: string): void {
  const hint = 'write "@" and "/" in a user name or a password as %40 and %2F';
  if (hosts.includes('@', 1)) fail('unexpected "@" in host of URI', hint);
  if (!/^[0-9,]*$/.test(decodePercent(ports, true))) fail('invalid port number in URI', hint);
}

/** conninfo_uri_parse_params */
function parseQuery(query: string, values: Map<string, string>): void {
  const parameters = query.split('&');
  if (parameters.at(-1) === '') parameters.pop();
  let afterSecret = false;
  for (const parameter of parameters) {
    const [encodedKeyword = '', encodedValue, ...more] = parameter.split('=');
    const shown = afterSecret ? HIDDEN : shownWord(encodedKeyword);
    if (encodedValue === undefined) {
      fail(`missing key/value separator "=" in URI query parameter: "${shown}"`);
    }
    if (more.length > 0) fail(`extra key/value separator "=" in URI query parameter: "${shown}"`);
    const keyword = decodePercent(encodedKeyword, afterSecret);
    const value = decodePercent(encodedValue, isSecretOption(keyword) || !CONNECTION_OPTIONS.has(keyword));
    if (keyword === 'ssl' && value === 'true') {
      values.set('sslmode', 'require');
    } else if (!store(values, keyword, value)) {
      fail(`invalid URI query parameter: "${afterSecret ? HIDDEN : shownWord(keyword)}"`);
    }
    afterSecret = isSecretOption(keyword);
  }
}

/** conninfo_uri_decode: spaces around the value are dropped, spaces in it refused. */
function decodePercent(encoded: string, secret: boolean): string {
  const shown = secret || /[:@=]/.test(encoded) ? HIDDEN : encoded;
  const [, word = '', after = ''] = /^ *([^ ]*) *([^]*)$/.exec(encoded) ?? [];
  for (const [, digits] of word.matchAll(/%([0-9A-Fa-f]{2})?/g)) {
    if (digits === undefined) fail(`invalid percent-encoded token: "${shown}"`);
    if (digits === '00') fail(`forbidden value %00 in percent-encoded value: "${shown}"`);
  }
  if (after !== '') fail(`unexpected spaces found in "${shown}", use percent-encoded spaces (%20) instead`);
  try {
    return decodeURIComponent(word);
  } catch {
    return fail(`percent-encoded value is not valid UTF-8: "${shown}"`);
  }
}

/** The URI, but for one that may hold a password. */
function shownUri(uri: string): string {
  return /[@?]/.test(uri) ? uri.replace(/\/\/[^]*$/, `//${HIDDEN}`) : uri;
}
