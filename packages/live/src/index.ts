/** Disks that stay in use while their images change. */
export { type Claim, LiveDisk, type LiveFilter, type LiveNode } from './live-disk.ts';
export { NodeNames } from './node-names.ts';
export { nodesOf } from './nodes.ts';
export { type PreparedSnapshot, prepareSnapshot, snapshot } from './snapshot.ts';
export type { Resume } from './traffic.ts';
