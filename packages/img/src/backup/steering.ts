/** Steers a running server over QMP, with the scratch images that hold its disks still. */
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ScratchFolder, Steering } from '@strata/backup';
import { DiskError, isDiskError } from '@strata/block';
import { connectQmp, type QmpClient, QmpError } from '@strata/qmp';
import { qcow2Support } from '../formats/qcow2.ts';
import { makeImage } from '../make.ts';
import { noObjects } from '../objects/objects.ts';
import { CommandError } from '../report.ts';

/** A connection. Disposing of it leaves the server as it is. */
export interface OpenedSteering extends Steering, AsyncDisposable {}

/** A monitor of QEMU's serves one client at a time, and lets others wait without a word. */
const longestWaitMs = 10_000;

/** Connects to the unix socket of a server. @throws {CommandError} */
export async function openSteering(path: string): Promise<OpenedSteering> {
  try {
    const client = await greeted(connectQmp({ path }));
    return {
      execute: (command, given) =>
        client.execute(command, given).catch((error: unknown) => {
          if (!(error instanceof QmpError)) throw error;
          throw new CommandError(`The server refused '${command}': ${error.message}`, { cause: error });
        }),
      event: (name, matches) => client.event(name, matches),
      [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
    };
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`Could not connect to '${path}': ${error.message}`, { cause: error });
  }
}

async function greeted(connecting: Promise<QmpClient>): Promise<QmpClient> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const fail = (): void => reject(new DiskError('busy', 'no greeting; is another client connected?'));
    timer = setTimeout(fail, longestWaitMs);
  });
  try {
    return await Promise.race([connecting, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A folder of this machine, which the server must see as well. */
export function scratchIn(folder: string): ScratchFolder {
  const path = (name: string): string => join(resolve(folder), name);
  return {
    make: async (name, size) => {
      await rm(path(name), { force: true });
      const values = new Map<string, number>([['size', size]]);
      await makeImage(path(name), qcow2Support, { size, backing: undefined, values, objects: noObjects });
      return path(name);
    },
    remove: (name) => rm(path(name), { force: true }),
  };
}
