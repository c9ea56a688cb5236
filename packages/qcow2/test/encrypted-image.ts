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
  await qemuImg.ok('create', '-q', '-f', 'qcow2', ...SECRET, ...options, path, String(size));
}
