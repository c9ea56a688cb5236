/** What the command tells of dirty bitmaps in a file beside an image whose format keeps none. */
import { type BitmapSource, bitmapsBeside } from '@strata/bitmap';
import type { HostSource } from '@strata/block';
import type { Json } from '../print/json.ts';
import type { BitmapFacts } from './support.ts';

/** What `info` tells of the bitmaps beside an image: as of those inside one. */
export async function bitmapsJson(bitmaps: BitmapSource | undefined): Promise<Json | undefined> {
  const found = (await bitmaps?.list()) ?? [];
  if (found.length === 0) return undefined;
  return found.map(({ name, granularity, enabled, inconsistent }) => {
    const flags = [...(inconsistent ? ['in-use'] : []), ...(enabled ? ['auto'] : [])];
    return { name, granularity, flags };
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
