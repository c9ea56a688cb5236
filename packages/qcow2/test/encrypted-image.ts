/** Encrypted images, made by qemu-img. */
import { qemuImg } from '@strata/testkit';

/** The options that give QEMU the key. */
export const SECRET = ['--object', 'secret,id=s,data=abc'] as const;

/** Makes an encrypted image of 1 MiB. */
export async function createEncrypted(path: string, format: 'aes' | 'luks'): Promise<void> {
  const fast = format === 'luks' ? ',encrypt.iter-time=10' : '';
  const options = ['-o', `encrypt.format=${format},encrypt.key-secret=s${fast}`];
  for (let tries = 1; ; tries++) {
    const args = ['create', '-q', '-f', 'qcow2', ...SECRET, ...options, path, '1M'];
    const { status, stderr } = await qemuImg.run(...args);
    if (status === 0) return;
    // QEMU measures its own speed and gives up where others keep the machine busy.
    if (tries === 10 || !stderr.includes('accurate CPU usage')) throw new Error(stderr);
  }
}
