/**
 * Where `serve` listens: where it is told to, on a socket that it was started with, or on one for its command alone.
 *
 * Disks are not offered to other machines in the clear, unless the user says so.
 *
 * Spec: sd_listen_fds(3), "Description" (LISTEN_FDS, LISTEN_PID)
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { ListenAddress } from '@strata/nbd';
import { CommandError, UsageError } from '../report.ts';
import { type ServeOptions, standardPort } from './options.ts';

/** An address, and what goes when the server is gone. */
export interface ChosenAddress extends AsyncDisposable {
  readonly address: ListenAddress;
}

/** The first descriptor that a service manager hands over. */
const firstActivated = 3;

const nothing = async (): Promise<void> => undefined;

/** @param captive the server is there for one command, which alone must find it */
export async function chooseAddress(
  given: ServeOptions,
  { captive, encrypted }: { readonly captive: boolean; readonly encrypted: boolean },
): Promise<ChosenAddress> {
  const { socket, bind, port } = given;
  const isTold = socket !== undefined || bind !== undefined || port !== undefined;
  const activated = activatedSockets(process.env, process.pid);
  if (activated > 0) {
    refuseActivation(given, activated);
    return { address: { fd: firstActivated }, [Symbol.asyncDispose]: nothing };
  }
  if (captive && !isTold) return privateSocket();
  if (socket !== undefined) return { address: { path: resolve(socket) }, [Symbol.asyncDispose]: nothing };
  const host = bind ?? '127.0.0.1';
  if (!encrypted && !given.insecure) refuseExposure(host, 'Without TLS');
  return { address: { host, port: port ?? standardPort }, [Symbol.asyncDispose]: nothing };
}

/** How many sockets the process that is `pid` was started with. */
export function activatedSockets(env: Readonly<Record<string, string | undefined>>, pid: number): number {
  const { LISTEN_FDS: count = '', LISTEN_PID: owner } = env;
  return owner === String(pid) && /^[1-9]\d{0,5}$/.test(count) ? Number(count) : 0;
}

function refuseActivation(given: ServeOptions, count: number): void {
  const rules: readonly (readonly [unknown, string])[] = [
    [given.bind, "-b can't be used with socket activation"],
    [given.port, "-p can't be used with socket activation"],
    [given.socket, "-k can't be used with socket activation"],
    [given.list, "List mode can't be used with socket activation"],
    [given.fork, "--fork can't be used with socket activation"],
    [
      count > 1,
      'qemu-nbd does not support socket activation with LISTEN_FDS > 1'.replace('qemu-nbd', 'serve'),
    ],
  ];
  for (const [holds, sentence] of rules) if (holds) throw new UsageError(sentence);
}

/** A socket in a folder that only this user may enter. */
async function privateSocket(): Promise<ChosenAddress> {
  const folder = await mkdtemp(join(tmpdir(), 'img-serve-'));
  return {
    address: { path: join(folder, 'socket') },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** @throws {CommandError} for an address at which other machines may connect */
export function refuseExposure(host: string, what: string): void {
  if (isLoopback(host)) return;
  throw new CommandError(
    `${what}, anybody who reaches '${host}' could connect: listen on 127.0.0.1 or a unix socket (-k), or add --insecure`,
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
