/** Encrypted images, made by qemu-img. */
import { qemuImg } from '@strata/testkit';

/** The options that give QEMU the key. */
export const SECRET = ['--object', 'secret,id=s,data=abc'] as const;

/** Makes an encrypted image, of 1 MiB unless told. `list` has more options of `-o`. */
export async function createEncrypted(
  path: string,
  format: 'aes' | 'luks',
  { size = 2 ** 20, list = [] }: { readonly size?: number; readonly list?: readonly string[] } = {},
): Promise<void> {
  const fast = format === 'luks' ? ['encrypt.iter-time=10'] : [];
  const options = ['-o', [`encrypt.format=${format}`, 'encrypt.key-secret=s', ...fast, ...list].join()];
  for (let tries = 1; ; tries++) {
    const args = ['create', '-q', '-f', 'qcow2', ...SECRET, ...options, path, String(size)];
    const { status, stderr } = await qemuImg.run(...args);
    if (status === 0) return;
    // QEMU measures its own speed and gives up where others keep the machine busy.
    if (tries === 50 || !stderr.includes('accurate CPU usage')) throw new Error(stderr);
  }
}
