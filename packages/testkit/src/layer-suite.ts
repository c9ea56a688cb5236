/** Runs the laws of disks on an image format, over an image below, and the laws that only layers have. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type BlockSource, isDiskError, type Layer } from '@strata/block';
import type { BlockLawName, BlockSubject } from './block-laws.ts';
import { blockSuite } from './block-suite.ts';
import { layerDevice } from './layer-device.ts';
import { oracle } from './oracle.ts';
import { randomFrom } from './random.ts';
import { bytesOf, scribble } from './random-calls.ts';
import { assertSameBytes } from './same-bytes.ts';

/** A layer under test. */
export interface LayerSubject extends AsyncDisposable {
  readonly layer: Layer;
  /** Closes the layer and its files and opens them again. */
  readonly reopen: () => Promise<Layer>;
}

/** The name of a law that only layers have. */
export type LayerLawName = 'fresh' | 'mapping' | 'empty' | 'grow' | 'shrink';

/** A format to test. */
export interface LayerSuite {
  /** For the titles. */
  readonly name: string;
  /** The layer's size: at least 200,000; better no multiple of anything, if the format allows. */
  readonly size: number;
  /** True: the layer is made with a backing reference and lies over an image full of bytes. */
  readonly backed: boolean;
  /** A fresh layer of `size` bytes that holds nothing. */
  readonly open: () => Promise<LayerSubject>;
  /** Laws that cannot hold for it. */
  readonly skip?: readonly { readonly law: BlockLawName | LayerLawName; readonly reason: string }[];
}

/** How far the image below reaches past the layer: growing must not bring it out. */
const LONGER = 150_000;

/** Defines the tests. */
export function layerSuite(suite: LayerSuite): void {
  const { size } = suite;
  const skips = suite.skip ?? [];
  const belowBytes = suite.backed ? randomFrom(99).bytes(size + LONGER) : new Uint8Array(size + LONGER);
  const newBelow = (): BlockSource => oracle(belowBytes.slice());

  const asDisk = async (): Promise<BlockSubject> => {
    const subject = await suite.open();
    const below = newBelow();
    return {
      device: layerDevice(subject.layer, below),
      reopen: async () => layerDevice(await subject.reopen(), below),
      below: belowBytes,
      [Symbol.asyncDispose]: () => subject[Symbol.asyncDispose](),
    };
  };
  blockSuite({ name: suite.name, open: asDisk, skip: skips.filter(isBlockSkip) });

  const law = (name: LayerLawName, title: string, check: (layer: Layer) => Promise<void>): void => {
    const skipped = skips.find((one) => one.law === name);
    test(title, skipped ? { skip: skipped.reason } : {}, async () => {
      await using subject = await suite.open();
      await check(subject.layer);
    });
  };
  const readAll = (layer: Layer): Promise<Uint8Array> => bytesOf(layerDevice(layer, newBelow()));

  describe(`${suite.name}, as a layer`, () => {
    law('fresh', 'a fresh layer reads as what lies below', async (layer) => {
      assertSameBytes(await readAll(layer), belowBytes.slice(0, size));
    });

    law('mapping', 'map keeps to its limit, and tryMap answers the same or not now', async (layer) => {
      const random = randomFrom(7);
      await scribble(layerDevice(layer, newBelow()), random);
      for (let i = 0; i < 200; i++) {
        const offset = random.upTo(size - 1);
        const limit = 1 + random.upTo(size - offset - 1);
        const mapping = await layer.map(offset, limit);
        assert.ok(mapping.length >= 1 && mapping.length <= limit, `${mapping.length} of at most ${limit}`);
        const again = layer.tryMap(offset, limit);
        if (again !== undefined) assert.deepEqual(again, mapping);
      }
    });

    law('empty', 'emptying shows what lies below again, or is refused and changes nothing', async (layer) => {
      await scribble(layerDevice(layer, newBelow()), randomFrom(8));
      const before = await readAll(layer);
      try {
        await layer.empty();
        assertSameBytes(await readAll(layer), belowBytes.slice(0, size));
      } catch (error) {
        if (!isDiskError(error, 'not-supported')) throw error;
        assertSameBytes(await readAll(layer), before);
      }
    });

    law('grow', 'growing adds zeros, though the image below has bytes there', async (layer) => {
      await scribble(layerDevice(layer, newBelow()), randomFrom(9));
      const before = await readAll(layer);
      const larger = size + LONGER - (LONGER % 512);
      await layer.resize(larger, newBelow());
      assert.equal(layer.size, larger);
      const after = await readAll(layer);
      assertSameBytes(after.subarray(0, size), before);
      assertSameBytes(after.subarray(size), new Uint8Array(larger - size));
    });

    law('shrink', 'shrinking cuts, and growing again adds zeros', async (layer) => {
      await scribble(layerDevice(layer, newBelow()), randomFrom(10));
      const before = await readAll(layer);
      const smaller = 102_400;
      await layer.resize(smaller, newBelow());
      assertSameBytes(await readAll(layer), before.subarray(0, smaller));
      await layer.resize(size, newBelow());
      const after = await readAll(layer);
      assertSameBytes(after.subarray(0, smaller), before.subarray(0, smaller));
      assertSameBytes(after.subarray(smaller), new Uint8Array(size - smaller));
    });
  });
}

type Skip = NonNullable<LayerSuite['skip']>[number];

const LAYER_LAWS: readonly string[] = [
  'fresh',
  'mapping',
  'empty',
  'grow',
  'shrink',
] satisfies LayerLawName[];

function isBlockSkip(skip: Skip): skip is Skip & { readonly law: BlockLawName } {
  return !LAYER_LAWS.includes(skip.law);
}
