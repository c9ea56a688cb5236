/** Disks that stay in use while their images change. */
export {
  type BackupOptions,
  type BackupSync,
  BackupTask,
  checkBackup,
  prepareBackup,
} from './backup/backup.ts';
export type { BitmapMode, BitmapPlace } from './backup/sync-bitmap.ts';
export { type CommitOptions, CommitTask, prepareCommit } from './commit/commit.ts';
export { type ActiveCommitOptions, ActiveCommitTask, prepareActiveCommit } from './commit/commit-active.ts';
export type { JobEvent, JobStatus, JobTold, JobType } from './jobs/events.ts';
export { JobGroup } from './jobs/group.ts';
export { Job, type JobFacts, type JobOptions, sentenceOf } from './jobs/job.ts';
export { endOf, JobList } from './jobs/list.ts';
export type { JobTask, JobWork } from './jobs/task.ts';
export { type Claim, LiveDisk, type LiveFilter, type LiveNode } from './live-disk.ts';
export { NodeNames } from './node-names.ts';
export { nodesOf } from './nodes.ts';
export { type PreparedSnapshot, prepareSnapshot, snapshot } from './snapshot.ts';
export type { Resume } from './traffic.ts';
