/** Private: what tests of several packages share. */
export { type NbdExtent, nbdinfo, nbdkit } from './nbd-peers.ts';
export { type CheckReport, type CreateOptions, type MapEntry, qemuImg, qemuIo, qemuNbd } from './qemu.ts';
export { type Requirement, requires } from './requires.ts';
export { type Finished, type RunOptions, run, runOk, type Server, serve } from './run.ts';
export { type TemporaryFolder, temporaryFolder } from './tmp.ts';
