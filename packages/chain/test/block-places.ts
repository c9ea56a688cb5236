/** Files that are only names: the places that opening tests open. */
import { DiskError, type HostFile } from '@strata/block';
import type { FileUse, Place, Places } from '../src/places.ts';

/** A file of a test: its first byte, which probing looks at, and who it really is. */
export interface FakeFile {
  readonly magic?: number;
  readonly identity?: string;
  readonly realPath?: string;
}

/** What happened to the files, in order: `open NAME`, `lock NAME write`, `close NAME`. */
export interface RecordedPlaces extends Places {
  readonly log: readonly string[];
}

/** Places that hold `files` and record what is done with them. */
export function fakePlaces(files: ReadonlyMap<string, FakeFile>): RecordedPlaces {
  const log: string[] = [];
  const open = async (name: string): Promise<Place<HostFile>> => {
    const file = files.get(name);
    if (file === undefined) throw missing(name);
    log.push(`open ${name}`);
    const host: Partial<HostFile> = {
      path: name,
      size: 512,
      read: async (into) => {
        into[0] = file.magic ?? 0xbb;
      },
      [Symbol.asyncDispose]: async () => {
        log.push(`close ${name}`);
      },
    };
    return {
      host: host as HostFile,
      identity: file.identity ?? name,
      realPath: file.realPath ?? name,
      lock: async ({ access, share }: FileUse) => {
        log.push(`lock ${name} ${share ? 'shared' : access}`);
      },
    };
  };
  return { log, openSource: open, openFile: open };
}

/** As the host says it. */
function missing(path: string): DiskError {
  const cause = Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
  return new DiskError('not-found', 'No such file or directory', { path, op: 'open', cause });
}
