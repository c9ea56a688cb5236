/** Backups of disks: full and incremental layers in a folder, checkpoints between them, restore and verification. */
export { checkSeries, parseCheckpoint, standardSeries } from './checkpoint-name.ts';
export { type Checkpoint, checkpointOfDisk, checkpointsIn, newestCheckpoint } from './checkpoint-state.ts';
export {
  type CheckpointImage,
  createCheckpoint,
  dropCheckpoints,
  finishCheckpoint,
  type ImageCheckpoint,
} from './checkpoints.ts';
export { assertHeld, checkpointIn, type ScratchFolder } from './fleece.ts';
export { type LockedFolder, lockFolder, type Point, readPoints } from './folder.ts';
export { layerName, type Manifest } from './manifest.ts';
export { fullHelps } from './plan.ts';
export { type OpenedPoint, openPoint, type Verdict, verifyFolder } from './restore.ts';
export {
  createRunningCheckpoint,
  diskOf,
  dropRunningCheckpoints,
  type NodeCheckpoint,
  releaseRunning,
} from './running-checkpoints.ts';
export { checkpointedNodes, type Steering } from './running-nodes.ts';
export type { BackupSource } from './source.ts';
export { type LayerFiles, type NewLayer, type TakeOptions, type TakeReport, takeBackup } from './take.ts';
