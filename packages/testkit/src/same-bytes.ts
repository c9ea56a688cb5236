/** Compares bytes in tests: at memcmp speed, and with one line to say where they differ. */
import assert from 'node:assert/strict';

/** Fails with the first byte that differs. node:assert would print both arrays, after minutes of comparing them. */
export function assertSameBytes(found: Uint8Array, expected: Uint8Array, what = 'bytes'): void {
  if (Buffer.compare(found, expected) === 0) return;
  assert.equal(found.length, expected.length, `${what}: ${found.length} bytes and not ${expected.length}`);
  const at = found.findIndex((byte, index) => byte !== expected[index]);
  assert.fail(`${what}: byte ${at} is ${found[at]} and not ${expected[at]}`);
}
