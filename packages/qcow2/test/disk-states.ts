/** What an image holds: its disk, and the disks that its snapshots keep. */
import { MemoryDevice } from '@strata/block';
import { checkImage } from '../src/check.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { listSnapshots } from '../src/snapshots.ts';
import { readGuest } from './guest.ts';

/** All of it in one text, to be compared. */
export interface DiskState {
  readonly disk: string;
  readonly snapshots: readonly string[];
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** A disk as it stands in a `DiskState`. */
export const diskText = textOf;

/** What the image in `bytes` holds, nothing being below it. @throws if it cannot be read */
export async function stateOf(bytes: Uint8Array): Promise<DiskState> {
  const file = new MemoryDevice();
  await file.write(bytes, 0);
  const header = await readHeader(file);
  const list = await listSnapshots(file, header);
  const source = await qcow2Format.openSource(file);
  const snapshots: string[] = [];
  for (const { id, name, diskSize } of list) {
    const kept = await qcow2Format.openSource(file, { snapshot: { id, name } });
    const length = Math.min(diskSize, kept.size);
    snapshots.push(`${id} ${name} ${diskSize} ${textOf(await readGuest(kept, 0, length))}`);
  }
  return { disk: textOf(await readGuest(source, 0, source.size)), snapshots };
}

/** What a check finds in the image in `bytes`; empty if all is well. `leaks`: leaked clusters count too. */
export async function faultsIn(bytes: Uint8Array, { leaks }: { readonly leaks: boolean }): Promise<string[]> {
  const file = new MemoryDevice();
  await file.write(bytes, 0);
  const report = await checkImage(file);
  if (report.failed !== undefined) return [report.failed];
  return report.findings.filter(({ kind }) => leaks || kind !== 'leak').map(({ text }) => text);
}
