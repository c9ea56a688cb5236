/** qcow2 images for the command: options of `-o` into options of the library, facts and findings into reports. */
import { DiskError, type Preallocation } from '@strata/block';
import {
  applySnapshot,
  bitmapsSize,
  type CheckReport,
  type CreateQcow2Options,
  changeBitmaps,
  checkImage,
  createQcow2,
  createSnapshot,
  dataFileName,
  deleteSnapshot,
  measureQcow2,
  type NewEncryption,
  type Qcow2Info,
  qcow2Format,
  qcow2FormatWith,
  type RepairReport,
  readInfo,
  repairImage,
  versionOfCompat,
} from '@strata/qcow2';

import type { CreationValues } from '../creation.ts';
import type { Objects } from '../objects/objects.ts';
import { passphraseOf } from '../objects/secret.ts';
import type { JsonObject } from '../print/json.ts';
import type { NodeOptions } from '../typed/node-options.ts';
import { bitmapFlags } from './bitmaps-beside.ts';
import { luksChoices, luksJson, withPassphrase } from './luks-options.ts';
import { qcow2Amend } from './qcow2-amend.ts';
import { qcow2Rows } from './rows.ts';
import type {
  CheckOutcome,
  FormatSupport,
  ImageFacts,
  Measurement,
  MeasureRequest,
  NewImage,
} from './support.ts';

export const qcow2Support: FormatSupport = {
  format: qcow2Format,
  rows: qcow2Rows,
  configure,
  create: async (file, image) => {
    await createQcow2(file, optionsOf(image));
    return true;
  },
  describe: async (file) => factsOf(await readInfo(file)),
  dataFile: dataFileName,
  keepsBitmaps: true,
  bitmapList: {
    read: async (file) => {
      const { bitmaps } = await readInfo(file);
      return bitmaps.map(({ name, auto, inUse }) => ({ name, enabled: auto, inconsistent: inUse }));
    },
    change: changeBitmaps,
  },
  snapshots: {
    create: (file, name, date) => {
      const milliseconds = date.getTime();
      const dateSeconds = Math.floor(milliseconds / 1000);
      return createSnapshot(file, { name, dateSeconds, dateNanoseconds: (milliseconds % 1000) * 1_000_000 });
    },
    apply: (file, idOrName) => applySnapshot(file, { idOrName }),
    remove: (file, name) => deleteSnapshot(file, { id: undefined, name }),
  },
  measure,
  amend: qcow2Amend,
  bitmaps: async (file) => {
    const { version, bitmaps } = await readInfo(file);
    return version === 2 ? undefined : bitmaps.filter(({ inUse }) => !inUse);
  },
  check: async (file) => outcomeOf(await checkImage(file)),
  repair: async (file, scope) => outcomeOf(await repairImage(file, scope)),
};

/** Sizes of caches and the like, which change no byte of an image: they are judged and have no effect. */
function configure(options: NodeOptions): FormatSupport {
  for (const name of ['cache-size', 'l2-cache-size', 'l2-cache-entry-size', 'refcount-cache-size']) {
    options.bytes(name);
  }
  options.bytes('cache-clean-interval');
  const others = ['request', 'snapshot', 'other'].map((what) => `pass-discard-${what}`);
  for (const name of ['lazy-refcounts', ...others]) options.switch(name);
  options.choice('overlap-check', ['none', 'constant', 'cached', 'all']);
  const encryptFormat = options.text('encrypt.format');
  const id = options.text('encrypt.key-secret');
  const { objects } = options;
  if (id === undefined) {
    if (encryptFormat === undefined) return qcow2Support;
    return { ...qcow2Support, format: qcow2FormatWith({ encryptFormat }) };
  }
  const make = (passphrase: Uint8Array) => qcow2FormatWith({ passphrase, encryptFormat });
  return { ...qcow2Support, format: withPassphrase(qcow2Format, { id, objects }, make) };
}

function optionsOf({ size, backing, dataFile, values, objects }: NewImage): CreateQcow2Options {
  refuseContradiction(values);
  if (values.has('backing_fmt') && !backing) {
    throw new DiskError('invalid', 'Backing format cannot be used without backing file');
  }
  return {
    size,
    version: versionOfCompat(String(values.get('compat') ?? '1.1')),
    clusterSize: Number(values.get('cluster_size') ?? 65_536),
    refcountBits: Number(values.get('refcount_bits') ?? 16),
    lazyRefcounts: values.get('lazy_refcounts') === true,
    compressionType: String(values.get('compression_type') ?? 'zlib'),
    extendedL2: values.get('extended_l2') === true,
    preallocation: preallocationOf(values),
    encryption: encryptionOf(values, objects),
    ...(dataFile && {
      dataFile: {
        name: String(values.get('data_file')),
        file: dataFile,
        raw: values.get('data_file_raw') === true,
      },
    }),
    ...(backing && { backing }),
  };
}

const preallocations: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

function preallocationOf(values: CreationValues): Preallocation {
  const value = values.get('preallocation') ?? 'off';
  const mode = preallocations.find((known) => known === value);
  if (mode === undefined)
    throw new DiskError('invalid', `Parameter 'preallocation' does not accept value '${value}'`);
  return mode;
}

const measuredVersions: Readonly<Record<string, 2 | 3>> = { '0.10': 2, '1.1': 3 };

async function measure({ disk, bitmaps, values, objects }: MeasureRequest): Promise<Measurement> {
  const compat = String(values.get('compat') ?? '1.1');
  const version = Object.hasOwn(measuredVersions, compat) ? measuredVersions[compat] : undefined;
  if (version === undefined) throw new DiskError('invalid', `Invalid compatibility level: '${compat}'`);
  const clusterSize = Number(values.get('cluster_size') ?? 65_536);
  const mode = values.get('preallocation') ?? 'off';
  const preallocation = preallocations.find((known) => known === mode);
  if (preallocation === undefined) throw new DiskError('invalid', `invalid parameter value: ${mode}`);
  const isLuks = values.get('encrypt.format') === 'luks';
  const encryption = isLuks ? encryptionOf(values, objects) : undefined;
  const measured = await measureQcow2(disk, {
    version,
    clusterSize,
    refcountBits: Number(values.get('refcount_bits') ?? 16),
    extendedL2: values.get('extended_l2') === true,
    preallocation,
    hasBacking: values.has('backing_file'),
    ...(encryption && { encryption }),
  });
  const size = typeof disk === 'number' ? disk : disk.size;
  const counts = version === 3 && bitmaps !== undefined;
  return { ...measured, bitmaps: counts ? bitmapsSize(bitmaps, size, clusterSize) : undefined };
}

/** @throws {DiskError} invalid */
function refuseContradiction(values: CreationValues): void {
  if (values.get('data_file_raw') === true && !values.has('data_file')) {
    throw new DiskError('invalid', 'data-file-raw requires data-file');
  }
}

/** How the image is to be encrypted. @throws {DiskError} invalid, not-supported */
function encryptionOf(values: CreationValues, objects: Objects): NewEncryption | undefined {
  const format = values.get('encryption') === true ? 'aes' : values.get('encrypt.format');
  if (format === undefined) {
    if (![...values.keys()].some((name) => name.startsWith('encrypt.'))) return undefined;
    throw new DiskError('invalid', "Parameter 'encrypt.format' is missing");
  }
  if (format === 'aes') throw notMade('encrypt.format=aes');
  if (format !== 'luks') throw notAccepted('format', format);
  const choices = luksChoices(values, 'encrypt.');
  const id = values.get('encrypt.key-secret');
  if (id === undefined)
    throw new DiskError('invalid', "Parameter 'encrypt.key-secret' is required for cipher");
  return { ...choices, passphrase: passphraseOf(objects, String(id)) };
}

function notAccepted(parameter: string, value: unknown): DiskError {
  return new DiskError('invalid', `Parameter '${parameter}' does not accept value '${value}'`);
}

function notMade(option: string): DiskError {
  return new DiskError('not-supported', `qcow2 images with '${option}' cannot be created yet`);
}

function factsOf(info: Qcow2Info): ImageFacts {
  return {
    virtualSize: info.size,
    clusterSize: info.clusterSize,
    dirty: info.dirty,
    encrypted: info.encryption !== undefined,
    backing: info.backing,
    snapshots: info.snapshots,
    specific: specificOf(info),
  };
}

/** In the order of QEMU's schema. Version 2 has none of the features, and lists none. */
function specificOf(info: Qcow2Info): JsonObject {
  const inVersion3 = <T>(value: T): T | undefined => (info.version === 3 ? value : undefined);
  return {
    compat: info.version === 3 ? '1.1' : '0.10',
    'data-file': info.dataFile?.name,
    'data-file-raw': info.dataFile?.raw,
    'extended-l2': inVersion3(info.extendedL2),
    'lazy-refcounts': inVersion3(info.lazyRefcounts),
    corrupt: inVersion3(info.corrupt),
    'refcount-bits': info.refcountBits,
    encrypt: info.encryption && { ...(info.luks && luksJson(info.luks)), format: info.encryption },
    bitmaps: info.bitmaps.length > 0 ? info.bitmaps.map(bitmapJson) : undefined,
    'compression-type': info.compressionType,
  };
}

function bitmapJson({ name, granularity, inUse, auto }: Qcow2Info['bitmaps'][number]): JsonObject {
  return { name, granularity, flags: bitmapFlags(inUse, auto) };
}

function outcomeOf(report: CheckReport | RepairReport): CheckOutcome {
  const { findings, findingsOmitted, failed, ...counts } = report;
  const lines = findings.map((finding) => finding.text);
  if (findingsOmitted > 0) lines.push(`... and ${findingsOmitted} more findings of these kinds`);
  return { counts, findings: lines, failed };
}
