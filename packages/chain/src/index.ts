/** Several image layers as one disk: resolve, open, commit. */
export { ChainDevice, ChainSource } from './chain.ts';
export { type CommitOptions, commit } from './commit.ts';
export { compressingDevice } from './compressing.ts';
export { DataFile } from './data-file.ts';
export { allowFolders, allowLocal, denyAll, type OpenGate } from './gate.ts';
export {
  type Chain,
  type ChainImage,
  longestChain,
  type NamedImage,
  type OpenOptions,
  openChain,
  openingSentence,
  openWritableChain,
  type WritableChain,
  type WritableImage,
} from './open.ts';
export { closeImage } from './open-image.ts';
export type { FileUse, Place, Places } from './places.ts';
export { probe } from './probe.ts';
export { type NewBacking, type RebaseStep, rebase, rebaseUnchecked } from './rebase.ts';
export { printable, schemeOf } from './reference.ts';
export { extentOf, type PastEnd, type Resolution, resolve, tryResolve } from './resolve.ts';
