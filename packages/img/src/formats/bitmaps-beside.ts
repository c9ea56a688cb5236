/** What the command tells of dirty bitmaps in a file beside an image whose format keeps none. */
import { type BitmapSource, bitmapsBeside } from '@strata/bitmap';
import type { HostSource } from '@strata/block';
import type { Json } from '../print/json.ts';
import type { BitmapFacts } from './support.ts';

const flagLists: readonly (readonly string[])[] = [[], ['auto'], ['in-use'], ['in-use', 'auto']];

/** The flags of a bitmap as `info` tells them; always the same lists, for there may be very many bitmaps. */
export function bitmapFlags(inUse: boolean, auto: boolean): readonly string[] {
  return flagLists[(inUse ? 2 : 0) + (auto ? 1 : 0)] as readonly string[];
}

/** What `info` tells of the bitmaps beside an image: as of those inside one. */
export async function bitmapsJson(bitmaps: BitmapSource | undefined): Promise<Json | undefined> {
  const found = (await bitmaps?.list()) ?? [];
  if (found.length === 0) return undefined;
  return found.map(({ name, granularity, enabled, inconsistent }) => {
    return { name, granularity, flags: bitmapFlags(inconsistent, enabled) };
  });
}

/** The bitmaps beside an image that can be copied; undefined if there are none. */
export async function soundBitmaps(
  file: HostSource,
  disk: { readonly size: number },
): Promise<readonly BitmapFacts[] | undefined> {
  const bitmaps = await bitmapsBeside(file, disk);
  return (await bitmaps?.list())?.filter(({ inconsistent }) => !inconsistent);
}
