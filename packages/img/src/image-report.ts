/** What `info` tells of one image, read from its own file alone. */
import type { BackingReference, HostSource } from '@strata/block';
import { allowLocal } from '@strata/chain';
import { inSectors } from './disk-size.ts';
import type { FormatSupport } from './formats/support.ts';
import type { BackingReport, ImageReport } from './print/info.ts';

/** An image that is open. */
export interface ReportedImage {
  /** As reports show it. */
  readonly filename: string;
  readonly support: FormatSupport;
  readonly host: HostSource;
}

/** @throws {DiskError} corrupt, limit, not-supported, io */
export async function imageReport({ filename, support, host }: ReportedImage): Promise<ImageReport> {
  const { backing, ...facts } = await support.describe(host);
  return {
    ...facts,
    virtualSize: inSectors(facts.virtualSize),
    filename,
    format: support.format.name,
    actualSize: await host.allocated(),
    backing: backing && (await backingReport(backing, filename)),
  };
}

async function backingReport(reference: BackingReference, from: string): Promise<BackingReport> {
  const { name, format } = reference;
  const fullName = await allowLocal.resolve(reference, from).catch(() => undefined);
  return { name, format, fullName };
}
