/**
 * Files in memory as places for images, with locks as files have them: what is opened twice by one program must get along.
 */
import {
  DiskError,
  type Fault,
  faulty,
  type HostFile,
  MemoryDevice,
  type PendingCall,
  raw,
} from '@strata/block';
import { allowLocal, type FileUse, type OpenOptions, type Place } from '@strata/chain';
import { type CreateQcow2Options, createQcow2, qcow2Format } from '@strata/qcow2';

/** What somebody holds of a file. */
interface Hold {
  use: FileUse | undefined;
}

/** Named files in memory. */
export class MemoryFiles {
  readonly memories = new Map<string, MemoryDevice>();
  /** Changes how a file is opened: to record it, or to make it fail. */
  through: (file: HostFile, name: string) => HostFile = (file) => file;
  readonly #holds = new Map<string, Set<Hold>>();

  /** How to open chains of these files. */
  get opening(): OpenOptions {
    const open = async (name: string) => this.#open(name);
    return { formats: [qcow2Format, raw], gate: allowLocal, places: { openSource: open, openFile: open } };
  }

  /** Makes a qcow2 image; `backing` is of the format qcow2. */
  async create(
    name: string,
    options: Omit<CreateQcow2Options, 'backing'> & { backing?: string },
  ): Promise<void> {
    const { backing, ...others } = options;
    const memory = new MemoryDevice();
    await createQcow2(memory, { ...others, ...(backing && { backing: { name: backing, format: 'qcow2' } }) });
    this.memories.set(name, memory);
  }

  /** What others hold of a file, as `write` or `read`; a shared reader counts as nobody. */
  holdersOf(name: string): readonly string[] {
    const uses = [...(this.#holds.get(name) ?? [])].map(({ use }) => use);
    return uses.flatMap((use) => (use === undefined || use.share ? [] : [use.access])).sort();
  }

  #open(name: string): Place<HostFile> {
    const memory = this.memories.get(name);
    if (memory === undefined) throw new DiskError('not-found', 'No such file or directory', { path: name });
    const holds = this.#holds.get(name) ?? new Set<Hold>();
    this.#holds.set(name, holds);
    const hold: Hold = { use: undefined };
    holds.add(hold);
    const lock = async (use: FileUse): Promise<void> => {
      const others = [...holds].filter((each) => each !== hold).map((each) => each.use);
      const refuses = (other: FileUse | undefined): boolean =>
        other !== undefined && !other.share && (other.access === 'write' || use.access === 'write');
      if (!use.share && others.some(refuses)) {
        throw new DiskError('busy', `Failed to get ${use.access === 'write' ? '' : 'shared '}"write" lock`);
      }
      hold.use = use;
    };
    const host = this.through(
      undisposed(memory, name, () => void holds.delete(hold)),
      name,
    );
    return { host, identity: name, realPath: undefined, lock };
  }
}

/** `file`, of whose calls `decide` may spoil each; it is closed with it. */
export function failing(file: HostFile, decide: (call: PendingCall) => Fault | undefined): HostFile {
  return Object.assign(faulty(file, decide), {
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  });
}

/** `memory`, which outlives its closing. */
function undisposed(memory: MemoryDevice, path: string, closed: () => void): HostFile {
  return {
    get size() {
      return memory.size;
    },
    path,
    caps: memory.caps,
    allocated: () => memory.allocated(),
    read: (into, offset) => memory.read(into, offset),
    tryRead: (into, offset) => memory.tryRead(into, offset),
    extentAt: (offset, limit) => memory.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => memory.tryExtentAt(offset, limit),
    write: (from, offset) => memory.write(from, offset),
    zero: (offset, length, how) => memory.zero(offset, length, how),
    discard: (offset, length) => memory.discard(offset, length),
    truncate: (size) => memory.truncate(size),
    flush: () => memory.flush(),
    [Symbol.asyncDispose]: async () => closed(),
  };
}
