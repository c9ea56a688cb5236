/** A server on a temporary unix socket, and the bytes with which a client begins. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { type ListenOptions, listen, type NbdServer } from '../../src/server/listen.ts';
import { ascii, type RawClient, rawClient, u32 } from './raw-client.ts';

/** A server that a test started. */
export interface Serving extends AsyncDisposable {
  readonly server: NbdServer;
  readonly path: string;
  readonly folder: TemporaryFolder;
  /** `nbd+unix:` URI of an export. */
  uri(name?: string): string;
  connect(): Promise<RawClient>;
  /** A client that has gone through the handshake and sends requests next. */
  connected(options?: ClientOptions): Promise<RawClient>;
}

/** How a client goes through the handshake. */
export interface ClientOptions {
  readonly name?: string;
  readonly structured?: boolean;
  /** Contexts to select. */
  readonly contexts?: readonly string[];
}

/** Serves until it is disposed of; a bug that the server reports fails the test then. */
export async function serving(
  options: Partial<ListenOptions> & Pick<ListenOptions, 'exports'>,
): Promise<Serving> {
  const folder = await temporaryFolder();
  const path = folder.file('socket');
  const bugs: unknown[] = [];
  const server = await listen({ address: { path }, onError: (error) => bugs.push(error), ...options });
  const connected = async (how: ClientOptions = {}): Promise<RawClient> => {
    const client = await rawClient(path);
    await client.expect(greeting);
    client.send('00000003');
    if (how.structured) {
      client.send(option(8, ''));
      await client.expect(reply(8, 1, ''));
    }
    if (how.contexts) {
      const queries = how.contexts.map((query) => u32(query.length) + ascii(query)).join('');
      client.send(option(10, u32(0) + u32(how.contexts.length) + queries));
      await takeReplies(client);
    }
    const name = how.name ?? '';
    client.send(option(7, `${u32(Buffer.byteLength(name)) + ascii(name)}0000`));
    await takeReplies(client);
    return client;
  };
  return {
    server,
    path,
    folder,
    uri: (name = '') => `nbd+unix:///${encodeURIComponent(name)}?socket=${path}`,
    connect: () => rawClient(path),
    connected,
    [Symbol.asyncDispose]: async () => {
      await server.close({ graceMs: 1000 });
      await rm(folder.path, { recursive: true, force: true });
      assert.deepEqual(bugs, []);
    },
  };
}

/** NBDMAGIC, IHAVEOPT, fixed newstyle and no zeroes. */
export const greeting = '4e42444d41474943 49484156454f5054 0003';

/** An option as a client sends it; `data` is hexadecimal. */
export function option(number: number, data: string): string {
  const digits = data.replace(/\s/g, '');
  return `49484156454f5054 ${u32(number)} ${u32(digits.length / 2)} ${digits}`;
}

/** An option reply; `data` is hexadecimal. */
export function reply(number: number, type: number, data: string): string {
  const digits = data.replace(/\s/g, '');
  return `0003e889045565a9 ${u32(number)} ${u32(type)} ${u32(digits.length / 2)} ${digits}`;
}

/** Takes option replies up to the final one, and resolves with their types. */
export async function takeReplies(client: RawClient): Promise<readonly number[]> {
  const types: number[] = [];
  for (;;) {
    const header = await client.receive(20);
    await client.receive(header.readUInt32BE(16));
    const type = header.readUInt32BE(12);
    types.push(type);
    if (type === 1 || type >= 0x8000_0000) return types;
  }
}

const cookie = '00000000c0ffee00';

/** A request; the offset is below 2^48. */
export function request(command: number, offset: number, length: number, flags = 0): string {
  const digits = (value: number, bytes: number): string => value.toString(16).padStart(2 * bytes, '0');
  return `25609513 ${digits(flags, 2)} ${digits(command, 2)} ${cookie} ${digits(offset, 8)} ${u32(length)}`;
}

/** A simple reply to `request`, without its payload. */
export function simple(error = 0): string {
  return `67446698 ${u32(error)} ${cookie}`;
}

/** A structured chunk in reply to `request`; `payload` is hexadecimal. */
export function chunk(type: number, payload: string, flags = 1): string {
  const digits = payload.replace(/\s/g, '');
  const head = `668e33ef ${flags.toString(16).padStart(4, '0')} ${type.toString(16).padStart(4, '0')}`;
  return `${head} ${cookie} ${u32(digits.length / 2)} ${digits}`;
}
