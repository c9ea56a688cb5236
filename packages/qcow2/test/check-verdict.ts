/** The verdict on an image of qemu-img check, and ours, in one form. */
import assert from 'node:assert/strict';
import { isDiskError } from '@strata/block';
import { run } from '@strata/testkit';
import { type CheckReport, checkImage } from '../src/check.ts';
import { openHost } from './host.ts';

/** What qemu-img check and we must agree on. */
export interface Verdict {
  /** The exit status: 0 sound, 1 could not be checked, 2 corruptions, 3 leaks only. */
  readonly status: number;
  readonly report: Record<string, number>;
  /** Standard error without the program's own lines, sorted; undefined where there are too many to keep. */
  readonly lines: readonly string[] | undefined;
}

const COUNTS = [
  'check-errors',
  'corruptions',
  'leaks',
  'image-end-offset',
  'total-clusters',
  'allocated-clusters',
  'fragmented-clusters',
  'compressed-clusters',
];

/** qemu-img's. */
async function theirVerdict(path: string): Promise<Verdict> {
  const { status, stdout, stderr } = await run('qemu-img', ['check', '-f', 'qcow2', '--output=json', path]);
  const told = stdout === '' ? {} : (JSON.parse(stdout) as Record<string, number>);
  const report = stdout === '' ? {} : Object.fromEntries(COUNTS.map((key) => [key, told[key] ?? 0]));
  // A warning of stale bitmaps is the caller's. QEMU puts its name before some findings and the C library's words behind some errors.
  const lines = stderr
    .replace(/^qemu-img: warning: .*\n.*?file to fix\./m, '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('qemu-img: Check failed'))
    .map((line) =>
      line.replace(/^qemu-img: ERROR/, 'ERROR').replace(/: (Invalid argument|Input\/output error)$/, ''),
    );
  return { status: status ?? -1, report, lines: lines.sort() };
}

/** Ours. */
async function ourVerdict(path: string): Promise<Verdict> {
  await using file = await openHost(path);
  let checked: CheckReport;
  try {
    checked = await checkImage(file);
  } catch (error) {
    assert.ok(isDiskError(error), String((error as Error).stack));
    return { status: 1, report: {}, lines: [`qemu-img: Could not open '${path}': ${error.message}`] };
  }
  const { corruptions, leaks, checkErrors, failed, findings, findingsOmitted } = checked;
  const texts = findings.flatMap(({ text }) => text.replace(/: Input\/output error$/, '').split('\n'));
  const lines = findingsOmitted > 0 ? undefined : texts.sort();
  if (failed !== undefined) return { status: 1, report: {}, lines };
  const report = {
    'check-errors': checkErrors,
    corruptions,
    leaks,
    'image-end-offset': checked.imageEndOffset,
    'total-clusters': checked.totalClusters,
    'allocated-clusters': checked.allocatedClusters,
    'fragmented-clusters': checked.fragmentedClusters,
    'compressed-clusters': checked.compressedClusters,
  };
  const status = checkErrors > 0 ? 1 : corruptions > 0 ? 2 : leaks > 0 ? 3 : 0;
  return { status, report, lines };
}

/**
 * Where we differ from qemu-img on purpose: it opens the backing file and wants the key of an encrypted
 * image, and we read one file and no data; and a sum of its own overflows before one message.
 */
function isOutOfScope(theirs: Verdict): boolean {
  const words = [/Could not open backing file/, /encrypt\.key-secret' is required/, /Bitmap extra data/];
  return theirs.lines?.some((line) => words.some((pattern) => pattern.test(line))) === true;
}

/** Asserts that both are the same. `told` says what was done to the image. */
export async function assertAgree(path: string, told: string): Promise<Verdict> {
  const [whole, ours] = [await theirVerdict(path), await ourVerdict(path)];
  if (isOutOfScope(whole)) return { ...ours, status: whole.status };
  const theirs = ours.lines === undefined ? { ...whole, lines: undefined } : whole;
  assert.deepEqual(
    ours,
    theirs,
    `${told}\nours: ${JSON.stringify(ours, undefined, 1)}\ntheirs: ${JSON.stringify(theirs, undefined, 1)}`,
  );
  return ours;
}
