/**
 * Files of pre-shared keys, as GnuTLS's psktool writes them: a line `USER:KEY` each, the key in hexadecimal digits.
 *
 * Keys are secrets: no message has any part of a line in it but its number.
 *
 * Spec: GnuTLS, "Authentication using PSK"
 */
import { DiskError } from '@strata/block';

/** As OpenSSL has them. */
const longestKey = 256;
const longestName = 256;

/**
 * The keys by user name, of which the last one of each counts.
 * @param path for errors
 * @throws {DiskError} invalid
 */
export function parseKeyFile(text: string, path: string): ReadonlyMap<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>();
  text.split('\n').forEach((line, index) => {
    const [, name, digits] = /^([^:#][^:]*):((?:[0-9a-fA-F]{2})+)\r?$/.exec(line) ?? [];
    if (name !== undefined && digits !== undefined) {
      if (name.length <= longestName && digits.length / 2 <= longestKey) {
        keys.set(name, Buffer.from(digits, 'hex'));
        return;
      }
    } else if (line.trim() === '' || line.startsWith('#')) {
      return;
    }
    throw new DiskError('invalid', `line ${index + 1} of ${path} is not a user name, a colon and a key`, {
      path,
    });
  });
  if (keys.size === 0) throw new DiskError('invalid', `${path} holds no keys`, { path });
  return keys;
}
