/** Images for tests of the parts that change them: in memory, on a file that logs. */
import { type BlockSource, MemoryDevice } from '@strata/block';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { Image, type ImageOptions } from '../src/image.ts';
import { RecordingFile } from './recording.ts';

/** A new image and what is under it. */
export interface NewImage {
  readonly image: Image;
  readonly file: RecordingFile;
  readonly memory: MemoryDevice;
  readonly below: BlockSource;
}

/** Every byte of what is under a backed image. */
export const BELOW = 0xbb;

/** A new image; `backed`: over a disk full of `BELOW`, twice as long. */
export async function newImage(
  options: CreateQcow2Options,
  { backed = false, ...image }: ImageOptions & { readonly backed?: boolean } = {},
): Promise<NewImage> {
  const memory = new MemoryDevice();
  const backing = backed ? { backing: { name: 'below', format: 'raw' } } : {};
  await createQcow2(memory, { ...options, ...backing });
  const below = new MemoryDevice(options.size * 2);
  if (backed) await below.write(new Uint8Array(options.size * 2).fill(BELOW), 0);
  return { ...(await reopened(memory, image)), below };
}

/** An image in `memory`, opened for writing. */
export async function reopened(
  memory: MemoryDevice,
  options: ImageOptions = {},
): Promise<Omit<NewImage, 'below'>> {
  const file = new RecordingFile(memory);
  return { image: new Image(file, await readHeader(file), options), file, memory };
}

/** Guest bytes as the image alone shows them: `BELOW` where a backed one leaves it to what is under it. */
export async function bytesOf(image: Image, offset = 0, length = image.size - offset): Promise<Uint8Array> {
  const all = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const at = offset + done;
    const mapping = await image.reader.map(at, length - done);
    const into = all.subarray(done, done + mapping.length);
    if (mapping.kind === 'below') into.fill(image.hasBacking ? BELOW : 0);
    else await image.reader.read(into, at);
    done += mapping.length;
  }
  return all;
}

/** Makes the file complete, and says what is wrong with it. */
export async function faultsOf({ image, file }: Pick<NewImage, 'image' | 'file'>): Promise<string[]> {
  do await image.barrier.run();
  while (image.barrier.isNeeded);
  const { findings, corruptions, leaks, checkErrors } = await checkImage(file);
  const texts = findings.map(({ text }) => text);
  return corruptions + leaks + checkErrors > 0 ? [...texts, 'faults were found'] : [];
}

/** `length` bytes of `value`. */
export const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);
