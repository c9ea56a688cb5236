/** Private: what tests of several packages share. */

export type { BlockLawName, BlockSubject } from './block-laws.ts';
export { type BlockSuite, blockSuite } from './block-suite.ts';
export { type Cut, type CuttingProxy, cuttingProxy } from './cutting-proxy.ts';
export { requiresLinux } from './kernel.ts';
export { layerDevice } from './layer-device.ts';
export { type LayerLawName, type LayerSubject, type LayerSuite, layerSuite } from './layer-suite.ts';
export { type NbdExtent, nbdinfo, nbdkit } from './nbd-peers.ts';
export { oracle } from './oracle.ts';
export { type CheckReport, type CreateOptions, type MapEntry, qemuImg, qemuIo, qemuNbd } from './qemu.ts';
export { type QemuHold, qemuHold } from './qemu-hold.ts';
export { type Random, randomFrom } from './random.ts';
export { anyRange, assertBytes, bytesOf, runModel, scribble } from './random-calls.ts';
export { type Requirement, requires } from './requires.ts';
export { type Finished, type RunOptions, run, runOk, type Server, serve } from './run.ts';
export { assertSameBytes } from './same-bytes.ts';
export {
  qcow2Blockdev,
  type StorageDaemon,
  type StorageDaemonOptions,
  storageDaemon,
} from './storage-daemon.ts';
export {
  type CertificateOptions,
  type TestAuthority,
  testAuthority,
  tlsFolder,
  writeKeys,
} from './tls-credentials.ts';
export { type TemporaryFolder, temporaryFolder } from './tmp.ts';
