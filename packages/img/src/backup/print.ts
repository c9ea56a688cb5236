/** What `backup` reports, for people and as JSON. */
import { layerName, type Manifest, type TakeReport, type Verdict } from '@strata/backup';
import { formatSize } from '@strata/block';
import { twoDecimals } from '../print/decimals.ts';
import type { JsonObject } from '../print/json.ts';

const column = 12;

function line(what: string, value: string): string {
  return `${`${what}:`.padEnd(column)}${value}\n`;
}

function bytes(count: number): string {
  return `${formatSize(count)} (${count} bytes)`;
}

/** A backup that was taken. */
export function reportLines({ kind, manifest, ...report }: TakeReport): string {
  const name = layerName(manifest.number);
  const at = manifest.checkpoint === undefined ? 'no checkpoint' : `checkpoint ${manifest.checkpoint}`;
  if (kind === 'nothing') return `Nothing to do: ${name} is the backup of ${at}.\n`;
  const seconds = report.duration / 1000;
  const rate = seconds > 0 ? report.read / seconds : 0;
  return [
    `${kind === 'full' ? 'Full' : 'Incremental'} backup ${name}, ${at}.\n`,
    line('changed', bytes(report.changed)),
    line('read', bytes(report.read)),
    line('overhead', `${bytes(report.overhead)}, read beyond what changed`),
    line('layer', bytes(manifest.file.length)),
    line('time', `${twoDecimals(seconds)} s, ${formatSize(Math.round(rate))}/s`),
    ...(report.resumedAt > 0 ? [line('resumed', `at offset ${report.resumedAt}`)] : []),
    ...(report.verified ? [line('verified', 'the same as the source')] : []),
  ].join('');
}

/** The same as JSON. */
export function reportJson({ kind, manifest, ...report }: TakeReport): JsonObject {
  return {
    kind,
    ...pointJson(manifest),
    'changed-bytes': report.changed,
    'read-bytes': report.read,
    'overhead-bytes': report.overhead,
    'resumed-at': report.resumedAt > 0 ? report.resumedAt : undefined,
    verified: report.verified,
    milliseconds: Math.round(report.duration),
  };
}

function pointJson({
  number,
  parent,
  size,
  source,
  checkpoint,
  bitmaps,
  frozen,
  time,
  file,
}: Manifest): JsonObject {
  return {
    number,
    layer: layerName(number),
    parent: parent && layerName(parent.number),
    'virtual-size': size,
    source,
    checkpoint,
    bitmaps,
    frozen,
    time,
    'layer-bytes': file.length,
    sha256: file.sha256,
  };
}

/** The backups of a folder. */
export function listLines(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ number, manifest, problem }) => {
    const [kind, length, time, checkpoint] =
      manifest === undefined
        ? ['-', '-', '-', '-']
        : [
            manifest.parent === undefined ? 'full' : `on ${manifest.parent.number}`,
            formatSize(manifest.file.length),
            manifest.time,
            manifest.checkpoint ?? '-',
          ];
    const state = problem === undefined ? checkpoint : `${checkpoint}  NOT USABLE: ${problem.message}`;
    return [String(number), kind, length, time, state];
  });
  return [['NUMBER', 'KIND', 'LAYER', 'TIME', 'CHECKPOINT'], ...rows]
    .map(([number = '', kind = '', length = '', time = '', state = '']) =>
      `${number.padEnd(8)}${kind.padEnd(9)}${length.padEnd(11)}${time.padEnd(26)}${state}`.trimEnd(),
    )
    .map((text) => `${text}\n`)
    .join('');
}

/** The same as JSON. */
export function listJson(verdicts: readonly Verdict[]): readonly JsonObject[] {
  return verdicts.map(({ number, manifest, problem }) => ({
    ...(manifest === undefined ? { number } : pointJson(manifest)),
    problem: problem?.message,
  }));
}
