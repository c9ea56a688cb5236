/** The files of a test as places for images, with the locks of the `img` command. */
import { realpath } from 'node:fs/promises';
import { LOCKS, openFile, raw } from '@strata/block';
import { allowFolders, type FileUse, type OpenOptions, type Place, type Places } from '@strata/chain';
import { qcow2Format } from '@strata/qcow2';

type Opened = Awaited<ReturnType<typeof openFile>>;

async function place<File extends Opened>(file: File): Promise<Place<File>> {
  return {
    host: file,
    identity: file.identity,
    realPath: await realpath(file.path),
    lock: async ({ access, exclusive }: FileUse) => {
      if (exclusive) file.lock(access === 'write' ? LOCKS.formatWrite : LOCKS.formatRead);
      else file.lock(access === 'write' ? LOCKS.rawWrite : LOCKS.rawRead);
    },
  };
}

const files: Places = {
  openSource: async (path) => place(await openFile(path, { access: 'read' })),
  openFile: async (path) => place(await openFile(path, { access: 'write' })),
};

/** How to open a chain of qcow2 and raw images that lies in `folder`. */
export function openingIn(folder: string): OpenOptions {
  return { formats: [qcow2Format, raw], gate: allowFolders([folder]), places: files };
}
