/**
 * NBD URIs, and the older `nbd:` names that QEMU still takes: text to target and back.
 *
 * Written by hand because `new URL` rewrites what it reads: it removes dot segments, and an export name is free
 * text in which `a/../b` is not `b`. Text is untrusted; nothing here resolves a name or touches a file.
 *
 * It is an entry of the package by itself, for those who want to know what a name is before they load the rest.
 *
 * Spec: The NBD Uniform Resource Indicator (URI) format, "NBD URI components"; RFC 3986, section 3
 */
import { DiskError } from '@strata/block';
import { defaultPort, maxStringLength } from '../protocol/numbers.ts';
import { printable } from '../protocol/text.ts';
import { formatTlsWish, isTlsParameter, noTls, type TlsWish, tlsWish } from './uri-tls.ts';

/** Loading it takes a tenth of a small command, and few names have an address in brackets. */
const net = () => process.getBuiltinModule('node:net');

/** Where a server listens: a unix socket (a leading NUL means the abstract namespace) or a TCP port. */
export type NbdAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Which export of which server. */
export interface NbdTarget {
  readonly address: NbdAddress;
  /** Free text without NUL; the empty name is the server's default export. */
  readonly exportName: string;
  /** Whom to be for servers that ask; undefined if the URI does not say. */
  readonly user: string | undefined;
  /** Undefined: plain text. */
  readonly tls?: TlsWish | undefined;
  /** For how long to connect anew after a loss; undefined if the URI does not say. */
  readonly reconnectDelayMs?: number | undefined;
}

/** RFC 3986, appendix B, with the scheme and `//` required: scheme, authority, path, query, fragment. */
const uriParts = /^([^:/?#]+):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s;
/** QEMU's name for it, in seconds. */
const reconnectDelay = 'reconnect-delay';
const unixExample = 'nbd+unix:///NAME?socket=PATH';

/** True if `text` is meant as an NBD address (well-formed or not) and not as the name of a file. */
export function isNbdUri(text: string): boolean {
  return /^nbds?(\+[a-z]+)?:/i.test(text);
}

/**
 * Reads an NBD URI, `nbd:HOST:PORT[:exportname=NAME]` or `nbd:unix:PATH[:exportname=NAME]`.
 *
 * @throws {DiskError} invalid if it is not well-formed or says something that we do not understand;
 *   not-supported if it asks for a transport other than TCP and unix sockets
 */
export function parseNbdUri(text: string): NbdTarget {
  if (/^nbd:(?!\/\/)/i.test(text)) return parseLegacy(text.slice('nbd:'.length));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x20\x7f]/.test(text)) throw invalid('spaces and control characters must be percent-encoded');
  const parts = uriParts.exec(text);
  if (parts === null) throw invalid('expected nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH');
  const [, scheme = '', authority = '', path = '', query = '', fragment] = parts;
  if (fragment !== undefined) throw invalid("it has a fragment ('#' must be written %23)");
  const { transport, isSecure } = transportOf(scheme.toLowerCase());
  const exportName = checkName(decode(path.replace(/^\//, ''), 'the export name'));
  const parameters = parseQuery(query);
  const { user, host, port } = parseAuthority(authority);
  const socket = parameters.get('socket');
  const tls = isSecure ? tlsWish(parameters, user) : noTls(parameters);
  const seconds = parameters.get(reconnectDelay);
  const again = seconds === undefined ? {} : { reconnectDelayMs: 1000 * parseSeconds(seconds) };
  const rest = { exportName, user, ...(tls && { tls }), ...again };
  if (transport === 'tcp') {
    if (socket !== undefined)
      throw invalid(`the socket parameter needs the scheme nbd+unix (${unixExample})`);
    return { address: { host: host ?? 'localhost', port: port ?? defaultPort }, ...rest };
  }
  if (socket === undefined) throw invalid(`the socket parameter is missing (${unixExample})`);
  if (host !== undefined || port !== undefined) throw invalid('a unix socket has no host and no port');
  return { address: { path: checkSocketPath(socket) }, ...rest };
}

/**
 * The URI of a target: `parseNbdUri` gives the target back.
 *
 * @throws {DiskError} invalid for a name that has no UTF-8 form
 */
export function formatNbdUri(target: NbdTarget): string {
  const { address, exportName, user, tls } = target;
  const scheme = tls === undefined ? 'nbd' : 'nbds';
  const parameters = tls === undefined ? [] : [...formatTlsWish(tls)];
  if (target.reconnectDelayMs !== undefined)
    parameters.push(`${reconnectDelay}=${target.reconnectDelayMs / 1000}`);
  const query = (first: readonly string[]): string => {
    const all = [...first, ...parameters];
    return all.length === 0 ? '' : `?${all.join('&')}`;
  };
  const userinfo = user === undefined ? '' : `${encode(user)}@`;
  const path = encode(exportName).replaceAll('%2F', '/');
  if ('path' in address) {
    const socket = `socket=${encode(address.path).replaceAll('%2F', '/')}`;
    return `${scheme}+unix://${userinfo}/${path}${query([socket])}`;
  }
  const host = address.host.includes(':') ? `[${address.host.replace('%', '%25')}]` : encode(address.host);
  const port = address.port === defaultPort ? '' : `:${address.port}`;
  return `${scheme}://${userinfo}${host}${port}/${path}${query([])}`;
}

/** Where a server listens, in the words of an error message: a path, or `host:port`. */
export function describeAddress(address: NbdAddress): string {
  if ('path' in address) return address.path.replace(/^\0/, '@');
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

function transportOf(scheme: string): { readonly transport: 'tcp' | 'unix'; readonly isSecure: boolean } {
  const [, secure, unix] = /^nbd(s?)(\+unix)?$/.exec(scheme) ?? [];
  if (secure === undefined) {
    const known = 'nbd, nbds, nbd+unix and nbds+unix are known';
    throw new DiskError('not-supported', `unknown NBD URI scheme: ${scheme} (${known})`);
  }
  return { transport: unix === undefined ? 'tcp' : 'unix', isSecure: secure === 's' };
}

interface Authority {
  readonly user: string | undefined;
  readonly host: string | undefined;
  readonly port: number | undefined;
}

function parseAuthority(authority: string): Authority {
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? undefined : decode(authority.slice(0, at), 'the user name');
  const [, host, port] = /^(\[[^\]]*\]|[^:[\]]*)(?::([^:]*))?$/.exec(authority.slice(at + 1)) ?? [];
  if (host === undefined) throw invalid('the host is malformed (an IPv6 address stands in brackets)');
  return {
    user,
    host: host === '' ? undefined : parseHost(host),
    port: port === undefined || port === '' ? undefined : parsePort(port),
  };
}

function parseHost(text: string): string {
  const host = decode(text.replace(/^\[|\]$/g, ''), 'the host');
  if (text.startsWith('[')) {
    if (!net().isIPv6(host)) throw invalid('what stands in brackets is not an IPv6 address');
    return host;
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x20\x7f/?#@:[\]]/.test(host)) throw invalid('the host has characters that no host has');
  return host;
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw invalid('the port is not a number from 1 to 65535');
  return port;
}

function parseQuery(query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decode(equals < 0 ? pair : pair.slice(0, equals), 'a parameter');
    if (name !== 'socket' && name !== reconnectDelay && !isTlsParameter(name))
      throw invalid(`unknown parameter '${printable(name)}'`);
    if (parameters.has(name)) throw invalid(`parameter '${name}' is given twice`);
    parameters.set(name, equals < 0 ? '' : decode(pair.slice(equals + 1), `parameter '${name}'`));
  }
  return parameters;
}

function parseSeconds(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw invalid(`parameter '${reconnectDelay}' is not a number of seconds up to 999999`);
}

/** What follows `nbd:`. The last part is free text, so it ends at the end and is not decoded. */
function parseLegacy(text: string): NbdTarget {
  const [, server = '', name] = /^(.*?)(?::exportname=(.*))?$/s.exec(text) ?? [];
  const exportName = checkName(name ?? '');
  if (server === '') throw invalid('NBD server address missing');
  if (server.startsWith('unix:')) {
    return { address: { path: checkSocketPath(server.slice('unix:'.length)) }, exportName, user: undefined };
  }
  const { user, host, port } = parseAuthority(server);
  if (user !== undefined || host === undefined || port === undefined) {
    throw invalid('expected nbd:HOST:PORT or nbd:unix:PATH');
  }
  return { address: { host, port }, exportName, user: undefined };
}

function checkName(name: string): string {
  if (name.includes('\0')) throw invalid('the export name contains NUL');
  if (Buffer.byteLength(name) > maxStringLength)
    throw invalid(`the export name is longer than ${maxStringLength} bytes`);
  return name;
}

function checkSocketPath(path: string): string {
  if (path.replace(/^\0/, '') === '') throw invalid('the path of the socket is empty');
  if (path.includes('\0', 1)) throw invalid('the path of the socket contains NUL');
  return path;
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new DiskError('invalid', `not an NBD URI: ${what} is not percent-encoded UTF-8`, { cause });
  }
}

function encode(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch (cause) {
    throw new DiskError('invalid', 'the name is not Unicode text', { cause });
  }
}

function invalid(reason: string): DiskError {
  return new DiskError('invalid', `not an NBD URI: ${reason}`);
}
