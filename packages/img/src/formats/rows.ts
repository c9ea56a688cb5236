/**
 * The creation options of the formats, as qemu-img lists them.
 *
 * The order is that of the `Formatting` line. Names, types and wording are qemu-img's: scripts read both tables.
 */
import type { CreationRow } from '../creation.ts';
import { keyRows, luksRows } from './luks-options.ts';

const sizeRow: CreationRow = { name: 'size', type: 'bytes', help: 'Virtual disk size' };

/** What a raw image can be given. */
export const rawRows: readonly CreationRow[] = [sizeRow];

/** What a file of the host can be given, whatever the format in it. */
export const fileRows: readonly CreationRow[] = [
  sizeRow,
  { name: 'nocow', type: 'switch', help: 'Turn off copy-on-write (valid only on btrfs)' },
  {
    name: 'preallocation',
    type: 'text',
    help: 'Preallocation mode (allowed values: off, falloc, full)',
  },
  {
    name: 'extent_size_hint',
    type: 'bytes',
    help: 'Extent size hint for the image file, 0 to disable',
  },
];

/** What a luks image can be given. */
export const luksImageRows: readonly CreationRow[] = [
  sizeRow,
  {
    name: 'key-secret',
    type: 'text',
    help: 'ID of the secret that provides the keyslot passphrase',
  },
  ...luksRows(''),
];

/** What a qcow2 image can be given. */
export const qcow2Rows: readonly CreationRow[] = [
  {
    name: 'encryption',
    type: 'switch',
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  { name: 'encrypt.format', type: 'text', help: "Encrypt the image, format choices: 'aes', 'luks'" },
  {
    name: 'encrypt.key-secret',
    type: 'text',
    help: 'ID of secret providing qcow AES key or LUKS passphrase',
  },
  ...luksRows('encrypt.'),
  { name: 'cluster_size', type: 'bytes', help: 'qcow2 cluster size', standard: '65536' },
  { name: 'extended_l2', type: 'switch', help: 'Extended L2 tables', standard: 'off' },
  {
    name: 'preallocation',
    type: 'text',
    help: 'Preallocation mode (allowed values: off, metadata, falloc, full)',
  },
  {
    name: 'compression_type',
    type: 'text',
    help: 'Compression method used for image cluster compression',
    standard: 'zlib',
  },
  sizeRow,
  { name: 'compat', type: 'text', help: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
  { name: 'backing_file', type: 'text', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'text', help: 'Image format of the base image' },
  { name: 'data_file', type: 'text', help: 'File name of an external data file' },
  { name: 'data_file_raw', type: 'switch', help: 'The external data file must stay valid as a raw image' },
  { name: 'lazy_refcounts', type: 'switch', help: 'Postpone refcount updates', standard: 'off' },
  {
    name: 'refcount_bits',
    type: 'number',
    help: 'Width of a reference count entry in bits',
    standard: '16',
  },
];

const keptNames = [
  'size',
  'compat',
  'backing_file',
  'backing_fmt',
  'data_file',
  'data_file_raw',
  'lazy_refcounts',
  'refcount_bits',
];

/** What of a qcow2 image can be changed later. */
export const qcow2AmendRows: readonly CreationRow[] = [
  ...keyRows('encrypt.'),
  ...qcow2Rows.filter(({ name }) => keptNames.includes(name)),
];
