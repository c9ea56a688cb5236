/**
 * Encrypts a new image: puts a LUKS header into clusters of it, and then says in its header that guest data is
 * enciphered. Until then, and after a crash before it, the file is an empty image like any other.
 *
 * Spec: qcow2.txt, "Full disk encryption header pointer".
 */
import type { HostFile } from '@strata/block';
import type { LuksChoices, LuksPlan } from '@strata/luks';
import { writableKeyArea } from './encryption.ts';
import { Encryption } from './format.ts';
import { clustersFor } from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { encodeHeader } from './header-encode.ts';
import { rewriteHeader } from './header-rewrite.ts';
import { Image } from './image.ts';

/** How a new image is to be encrypted. */
export interface NewEncryption extends LuksChoices {
  /** Of its first key slot. It is not changed. */
  readonly passphrase: Uint8Array;
}

/** What the choices come to. @throws {DiskError} invalid, not-supported */
export async function planEncryption(wanted: NewEncryption): Promise<LuksPlan> {
  return (await import('@strata/luks')).planLuks(wanted);
}

/** Encrypts the empty image in `file`. @throws {DiskError} limit, no-space, and what the file throws */
export async function encryptNew(file: HostFile, plan: LuksPlan, passphrase: Uint8Array): Promise<void> {
  const { createLuks } = await import('@strata/luks');
  const image = new Image(file, await readHeader(file), {});
  await image.holdAll(async () => {
    const { geometry, allocator, header } = image;
    const length = plan.payloadOffset;
    const run = await allocator.allocateInOneRun(clustersFor(geometry, length));
    await file.zero(run.at, run.count * geometry.clusterSize, { allocate: true });
    const extensions = { ...header.extensions, encryption: { at: run.at, length } };
    const encrypted: Header = { ...header, cryptMethod: Encryption.luks, extensions };
    // A header that would not fit is found out before anything is written for it.
    encodeHeader(encrypted);
    (await createLuks(writableKeyArea(file, encrypted), plan, passphrase)).fill(0);
    await image.barrier.run();
    await rewriteHeader(file, encrypted);
    await file.flush();
  });
  await image.close();
}
