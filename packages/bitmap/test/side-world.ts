/** A raw image in memory with its side file, every step of which is written down, so that power cuts can be tried. */
import { type HostFile, type ImageFormat, MemoryDevice, raw } from '@strata/block';
import { randomFrom } from '@strata/testkit';
import { withBitmapsBeside } from '../src/beside.ts';
import type { SidePlace } from '../src/side-place.ts';

/** Something that happened to the disk of the host, in the order in which it ended. */
export type Step =
  | { readonly kind: 'write'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'flush' }
  /** The side file was replaced; undefined: removed. It is durable. */
  | { readonly kind: 'side'; readonly bytes: Uint8Array | undefined };

/** An image and what lies beside it. */
export interface SideWorld {
  readonly host: HostFile;
  readonly image: MemoryDevice;
  readonly place: SidePlace;
  readonly format: ImageFormat;
  readonly steps: Step[];
  /** The side file as it is. */
  side: Uint8Array | undefined;
  /** As another program does: we are not told. */
  changeBehind(): Promise<void>;
}

/** @param stamp what every look at the stamp says; without it, it tells all changes */
export function sideWorld(
  image: MemoryDevice,
  side?: Uint8Array,
  stamp?: (now: () => string) => string,
): SideWorld {
  const steps: Step[] = [];
  let changes = 0;
  const now = (): string => `state ${changes}`;
  const changed = (at: number, bytes: Uint8Array): void => {
    changes++;
    steps.push({ kind: 'write', at, bytes: bytes.slice() });
  };
  const host: HostFile = {
    get size() {
      return image.size;
    },
    path: '/image',
    caps: image.caps,
    read: (into, at) => image.read(into, at),
    tryRead: (into, at) => image.tryRead(into, at),
    extentAt: (at, limit) => image.extentAt(at, limit),
    tryExtentAt: (at, limit) => image.tryExtentAt(at, limit),
    allocated: () => image.allocated(),
    write: async (from, at) => {
      await image.write(from, at);
      changed(at, from);
    },
    zero: async (at, length, how) => {
      await image.zero(at, length, how);
      changed(at, new Uint8Array(length));
    },
    discard: async (at, length) => {
      await image.discard(at, length);
      changed(at, new Uint8Array(length));
    },
    flush: async () => void steps.push({ kind: 'flush' }),
    truncate: async (size) => {
      await image.truncate(size);
      changes++;
    },
    stamp: async () => stamp?.(now) ?? now(),
    seal: async () => {
      steps.push({ kind: 'flush' });
      return stamp?.(now) ?? now();
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
  const world: SideWorld = {
    host,
    image,
    steps,
    side,
    place: {
      open: async () => world.side && (await memoryOf(world.side)),
      replace: async (write) => {
        const fresh = new MemoryDevice();
        await write(fresh);
        world.side = fresh.bytes();
        steps.push({ kind: 'side', bytes: world.side });
      },
      remove: async () => {
        world.side = undefined;
        steps.push({ kind: 'side', bytes: undefined });
      },
    },
    format: withBitmapsBeside(raw, async () => world.place),
    changeBehind: async () => {
      changes++;
    },
  };
  return world;
}

/** A file in memory with these bytes. */
export async function memoryOf(bytes: Uint8Array): Promise<MemoryDevice> {
  const memory = new MemoryDevice();
  await memory.write(bytes, 0);
  return memory;
}

/** A disk as a power cut may leave it. */
export interface CutState {
  readonly image: Uint8Array;
  readonly side: Uint8Array | undefined;
}

/** What power cuts may leave of `start` and `steps`: all that was flushed, and any of what was not. */
export function* cutStates(start: CutState, steps: readonly Step[], seed: number): Generator<CutState> {
  const random = randomFrom(seed);
  for (let end = 0; end <= steps.length; end++) {
    const past = steps.slice(0, end);
    const flushed = past.findLastIndex(({ kind }) => kind === 'flush');
    const written = past.map((step, index) => ({ step, index })).filter(({ step }) => step.kind === 'write');
    const loose = written.filter(({ index }) => index > flushed);
    const choices = [() => false, () => true, ...Array.from({ length: 3 }, () => () => random.upTo(1) === 1)];
    const last = past.findLast((step) => step.kind === 'side');
    for (const keeps of loose.length === 0 ? [() => true] : choices) {
      const image = start.image.slice();
      for (const { step, index } of written) {
        if (step.kind === 'write' && (index < flushed || keeps())) image.set(step.bytes, step.at);
      }
      yield { image, side: last === undefined ? start.side : last.bytes };
    }
  }
}
