/** Host files for tests. */
import { appendFile } from 'node:fs/promises';
import { type HostSource, openFile, type WritableFile } from '@strata/block';

/** Opens `path` for writing, without locks; it is created if it is not there. */
export async function openHost(path: string): Promise<WritableFile> {
  await appendFile(path, '');
  return openFile(path, { access: 'write' });
}

/** `file` for reading, with a count of the bytes that were read. Disposing of it does nothing. */
export function counted(file: HostSource): HostSource & { readonly bytesRead: number } {
  let bytesRead = 0;
  return {
    path: file.path,
    get size() {
      return file.size;
    },
    get bytesRead() {
      return bytesRead;
    },
    tryRead: () => false,
    read: (into, offset) => {
      bytesRead += into.length;
      return file.read(into, offset);
    },
    tryExtentAt: (offset, limit) => file.tryExtentAt(offset, limit),
    extentAt: (offset, limit) => file.extentAt(offset, limit),
    allocated: () => file.allocated(),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
