/**
 * What `check` prints of an image: qemu-img's summary for people, or its JSON.
 *
 * What was found stands on standard error, line by line, before this; here are the counts.
 */
import { twoDecimals } from './decimals.ts';
import type { JsonObject } from './json.ts';

/** The counts of one check. Every count that a format does not have is 0. */
export interface CheckCounts {
  /** Places where the image is damaged. */
  readonly corruptions: number;
  /** Clusters that are marked as used and that nothing uses. */
  readonly leaks: number;
  /** Failures of the check itself: what could not be read. */
  readonly checkErrors: number;
  /** The end of the last cluster in use, in bytes of the file. */
  readonly imageEndOffset: number;
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** What a repair has put right; 0 unless told. */
  readonly leaksFixed?: number;
  readonly corruptionsFixed?: number;
}

/** The report as an object; a count of 0 is left out, only `check-errors` always stands. */
export function checkJson(filename: string, format: string, counts: CheckCounts): JsonObject {
  return {
    filename,
    format,
    'check-errors': counts.checkErrors,
    'image-end-offset': counts.imageEndOffset || undefined,
    corruptions: counts.corruptions || undefined,
    leaks: counts.leaks || undefined,
    'corruptions-fixed': counts.corruptionsFixed || undefined,
    'leaks-fixed': counts.leaksFixed || undefined,
    'total-clusters': counts.totalClusters || undefined,
    'allocated-clusters': counts.allocatedClusters || undefined,
    'fragmented-clusters': counts.fragmentedClusters || undefined,
    'compressed-clusters': counts.compressedClusters || undefined,
  };
}

/** What is said for people between a repair and the check that follows it. */
export function repairText({ leaksFixed = 0, corruptionsFixed = 0 }: CheckCounts): string {
  return [
    'The following inconsistencies were found and repaired:\n\n',
    `    ${leaksFixed} leaked clusters\n`,
    `    ${corruptionsFixed} corruptions\n\n`,
    'Double checking the fixed image now...\n',
  ].join('');
}

/** The report as lines for people. */
export function checkText(counts: CheckCounts): string {
  return [findingsText(counts), allocationText(counts), endText(counts)].join('');
}

function findingsText({ corruptions, leaks, checkErrors }: CheckCounts): string {
  if (corruptions + leaks + checkErrors === 0) return 'No errors were found on the image.\n';
  let text = '';
  if (corruptions > 0) {
    text += `\n${corruptions} errors were found on the image.\n`;
    text += 'Data may be corrupted, or further writes to the image may corrupt it.\n';
  }
  if (leaks > 0) {
    text += `\n${leaks} leaked clusters were found on the image.\n`;
    text += 'This means waste of disk space, but no harm to data.\n';
  }
  if (checkErrors > 0) text += `\n${checkErrors} internal errors have occurred during the check.\n`;
  return text;
}

function allocationText(counts: CheckCounts): string {
  const { allocatedClusters: allocated, totalClusters: total } = counts;
  if (allocated === 0 || total === 0) return '';
  const share = (part: number, whole: number): string => `${twoDecimals((part * 100) / whole)}%`;
  const fragmented = share(counts.fragmentedClusters, allocated);
  const compressed = share(counts.compressedClusters, allocated);
  return `${allocated}/${total} = ${share(allocated, total)} allocated, ${fragmented} fragmented, ${compressed} compressed clusters\n`;
}

function endText({ imageEndOffset }: CheckCounts): string {
  return imageEndOffset === 0 ? '' : `Image end offset: ${imageEndOffset}\n`;
}
