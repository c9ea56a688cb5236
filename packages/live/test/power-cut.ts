/**
 * Files in memory that tell what a power cut at any moment would leave of them.
 *
 * A flush makes durable what of its own file had ended before it began. Of all other changes that had begun any may be
 * there and any may not, each sector of 512 bytes by itself.
 */
import { type HostFile, MemoryDevice } from '@strata/block';
import { type Random, randomFrom } from '@strata/testkit';

const sector = 512;

interface Change {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  /** Undefined: zeros. */
  readonly bytes: Uint8Array | undefined;
  readonly isCut: boolean;
  readonly began: number;
  ended: number;
}

interface Flush {
  readonly name: string;
  readonly began: number;
  readonly ended: number;
}

/** What the files may hold after a cut. */
export interface CutState {
  /** The cut came after this moment and before the next one at which something became durable. */
  readonly from: number;
  readonly to: number;
  readonly files: ReadonlyMap<string, MemoryDevice>;
}

/** Records what happens to files from a moment on. */
export class PowerCuts {
  readonly #start = new Map<string, Uint8Array>();
  readonly #changes: Change[] = [];
  readonly #flushes: Flush[] = [];
  #clock = 0;

  /** A moment in the order of all that happens. */
  now(): number {
    return ++this.#clock;
  }

  /** `file`, recorded; `memory` is where its bytes are. */
  file(file: HostFile, name: string, memory: MemoryDevice): HostFile {
    if (!this.#start.has(name)) this.#start.set(name, memory.bytes());
    const change = async (
      offset: number,
      length: number,
      bytes: Uint8Array | undefined,
      isCut: boolean,
      call: () => Promise<void>,
    ): Promise<void> => {
      const entry = {
        name,
        offset,
        length,
        bytes,
        isCut,
        began: this.now(),
        ended: Number.POSITIVE_INFINITY,
      };
      this.#changes.push(entry);
      await call();
      entry.ended = this.now();
    };
    return {
      get size() {
        return file.size;
      },
      path: file.path,
      caps: file.caps,
      allocated: () => file.allocated(),
      tryRead: (into, offset) => file.tryRead(into, offset),
      tryExtentAt: (offset, limit) => file.tryExtentAt(offset, limit),
      read: (into, offset) => file.read(into, offset),
      extentAt: (offset, limit) => file.extentAt(offset, limit),
      write: (from, offset) =>
        change(offset, from.length, Uint8Array.from(from), false, () => file.write(from, offset)),
      zero: (offset, length, how) =>
        change(offset, length, undefined, false, () => file.zero(offset, length, how)),
      discard: (offset, length) =>
        change(offset, length, undefined, false, () => file.discard(offset, length)),
      truncate: (size) => change(size, 0, undefined, true, () => file.truncate(size)),
      flush: async () => {
        const began = this.now();
        await file.flush();
        this.#flushes.push({ name, began, ended: this.now() });
      },
      [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
    };
  }

  /** What cuts may leave: between any two flushes, some of the many selections. */
  *states(seed: number): Generator<CutState> {
    const random = randomFrom(seed);
    const bounds = [0, ...this.#flushes.map(({ ended }) => ended), this.now()];
    for (const [index, from] of bounds.slice(0, -1).entries()) {
      const to = bounds[index + 1] as number;
      const begun = this.#changes.filter(({ began }) => began < to);
      const isDurable = (change: Change): boolean =>
        this.#flushes.some(
          ({ name, began, ended }) => name === change.name && ended <= from && change.ended < began,
        );
      const open = begun.filter((change) => !isDurable(change));
      for (const keeps of selections(open, random)) {
        const kept = begun.filter((change) => isDurable(change) || keeps(change) > 0);
        yield {
          from,
          to,
          files: this.#contentOf(kept, (change) => (isDurable(change) ? 2 : keeps(change)), random),
        };
      }
    }
  }

  #contentOf(kept: readonly Change[], keeps: (change: Change) => number, random: Random) {
    const files = new Map<string, MemoryDevice>();
    for (const [name, start] of this.#start) {
      const memory = new MemoryDevice();
      void memory.write(start, 0);
      for (const change of kept) {
        if (change.name !== name) continue;
        if (change.isCut) void memory.truncate(change.offset);
        else apply(memory, change, keeps(change) === 1 ? random : undefined);
      }
      files.set(name, memory);
    }
    return files;
  }
}

/** Applies a change, or, torn, some of its sectors. Memory takes everything at once. */
function apply(memory: MemoryDevice, { offset, length, bytes }: Change, torn: Random | undefined): void {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const next = torn === undefined ? end : Math.min(Math.floor(at / sector + 1) * sector, end);
    if (torn === undefined || torn.upTo(1) === 0) {
      if (bytes === undefined) void memory.zero(at, next - at);
      else void memory.write(bytes.subarray(at - offset, next - offset), at);
    }
    at = next;
  }
}

/** For each selection: 0 a change is not there, 1 in part, 2 whole. */
function* selections(open: readonly Change[], random: Random): Generator<(change: Change) => number> {
  yield () => 0;
  if (open.length === 0) return;
  yield () => 2;
  for (let count = 0; count < 4; count++) {
    const chosen = new Map(open.map((change) => [change, random.upTo(2)]));
    yield (change) => chosen.get(change) ?? 0;
  }
  for (let count = 0; count < 3; count++) {
    const one = open[random.upTo(open.length - 1)];
    yield (change) => (change === one ? 0 : 2);
    yield (change) => (change === one ? 2 : 0);
  }
}
