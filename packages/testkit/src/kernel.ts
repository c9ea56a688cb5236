/** What the kernel must be for a test. */
import { release } from 'node:os';

/** Skips a test, with the reason, where Linux is older, and on other systems. */
export function requiresLinux(major: number, minor: number): { readonly skip: string | false } {
  const [ours = 0, oursMinor = 0] = release().split('.').map(Number);
  const isThere = process.platform === 'linux' && (ours > major || (ours === major && oursMinor >= minor));
  return { skip: isThere ? false : `needs Linux ${major}.${minor}` };
}
