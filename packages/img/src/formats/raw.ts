/** Raw images for the command: a file that is the disk, byte for byte. */
import { bitmapsOf, withBitmapsBeside } from '@strata/bitmap';
import {
  DiskError,
  type HostFile,
  type HostSource,
  type ImageFormat,
  isDiskError,
  type Preallocation,
  raw,
  rawWindow,
  spendSpace,
} from '@strata/block';
import { inSectors } from '../disk-size.ts';
import type { NodeOptions } from '../typed/node-options.ts';
import { bitmapsJson, soundBitmaps } from './bitmaps-beside.ts';
import { rawRows } from './rows.ts';
import type { FormatSupport, ImageFacts, NewImage } from './support.ts';

/** Raw images with dirty bitmaps in a file beside them. */
const rawFormat = withBitmapsBeside(raw);

export const rawSupport: FormatSupport = {
  format: rawFormat,
  rows: rawRows,
  configure,
  create,
  describe: (file) => describe(file, rawFormat),
  snapshots: undefined,
  measure: async ({ disk }) => {
    const size = inSectors(typeof disk === 'number' ? disk : disk.size);
    return { required: size, fullyAllocated: size, bitmaps: undefined };
  },
  bitmaps: async (file) => soundBitmaps(file, file),
  keepsBitmaps: true,
  amend: undefined,
  check: undefined,
  repair: undefined,
};

/** `offset` and `size`: a part of the file. */
function configure(options: NodeOptions): FormatSupport {
  const [offset, size] = [options.bytes('offset'), options.bytes('size')];
  if (offset === undefined && size === undefined) return rawSupport;
  const format = rawWindow({ ...(offset !== undefined && { offset }), ...(size !== undefined && { size }) });
  return { ...rawSupport, format, describe: (file) => describe(file, format) };
}

async function describe(file: HostSource, format: ImageFormat): Promise<ImageFacts> {
  await using layer = await format.openSource(file);
  // Whoever does not tell what a disk takes does not tell how it was closed either.
  const isFile = (await file.allocated()) !== undefined;
  const bitmaps = await bitmapsJson(bitmapsOf(layer));
  return {
    virtualSize: layer.size,
    dirty: isFile ? false : undefined,
    ...(bitmaps && { specific: { bitmaps } }),
  };
}

async function create(file: HostFile, { size, values }: NewImage): Promise<boolean> {
  const mode = String(values.get('preallocation') ?? 'off');
  const preallocation = preallocations.find((known) => known === mode);
  if (!preallocation) throw new DiskError('invalid', refusal(mode));
  for (const name of ['nocow', 'extent_size_hint']) {
    if (values.get(name)) throw new DiskError('not-supported', `option '${name}' is not supported yet`);
  }
  const padded = inSectors(size);
  if (!(await cut(file, padded))) {
    // What lay at the start of the device must not be taken for another format's header.
    await file.zero(0, Math.min(sector, file.size));
    return false;
  }
  // Whoever opens the image for direct I/O finds out by reading it which alignment the host needs, and a hole tells nothing.
  if (padded > 0) await file.write(zeros.subarray(0, padded < firstBlock ? sector : firstBlock), 0);
  if (preallocation === 'falloc' || preallocation === 'full')
    await spendSpace(file, 0, padded, preallocation);
  await file.flush();
  return true;
}

/** Makes the file empty and `size` bytes long. False: it is a device, which keeps its size and its bytes. */
async function cut(file: HostFile, size: number): Promise<boolean> {
  try {
    await file.truncate(0);
  } catch (error) {
    if (!isDiskError(error, 'not-supported')) throw error;
    if (file.size < size) throw new DiskError('no-space', 'Cannot grow device files', { cause: error });
    return false;
  }
  await file.truncate(size).catch((error: unknown) => {
    throw isDiskError(error, 'no-space') ? new DiskError('limit', error.message, { cause: error }) : error;
  });
  return true;
}

const sector = 512;
const firstBlock = 4096;
const zeros = new Uint8Array(firstBlock);

/** How the space of a new file can be had before it is written to. */
const preallocations: readonly Preallocation[] = ['off', 'falloc', 'full'];

function refusal(mode: string): string {
  return mode === 'metadata' ? `Unsupported preallocation mode: ${mode}` : `invalid parameter value: ${mode}`;
}
