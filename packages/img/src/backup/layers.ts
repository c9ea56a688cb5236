/** The layers of a backup: qcow2 images in the backup's own folder, which lead nowhere else. */
import { resolve } from 'node:path';
import type { LayerFiles } from '@strata/backup';
import { LOCKS, openFile } from '@strata/block';
import { openChain, openWritableChain } from '@strata/chain';
import { qcow2Support } from '../formats/qcow2.ts';
import { makeImage } from '../make.ts';
import { noObjects } from '../objects/objects.ts';
import { openingFor } from '../open.ts';

/** What a layer names is followed into the folder of the layer only. */
const optionsFor = (path: string) => openingFor([path], { allow: [], format: 'qcow2' });

/** Layers as files of this machine. */
export const layerFiles: LayerFiles = {
  create: async (name, { size, clusterSize, backing }) => {
    const values = new Map<string, string | number>([
      ['size', size],
      ['cluster_size', clusterSize],
    ]);
    if (backing !== undefined)
      values.set('backing_file', backing.name).set('backing_fmt', String(backing.format));
    await makeImage(resolve(name), qcow2Support, { size, backing, values, objects: noObjects });
  },
  mend: async (name) => {
    await using file = await openFile(resolve(name), { access: 'write', lock: LOCKS.formatWrite });
    await qcow2Support.repair?.(file, 'leaks');
  },
  openWritable: (name) => openWritableChain(resolve(name), optionsFor(resolve(name))),
  open: (name) => openChain(resolve(name), optionsFor(resolve(name))),
};
