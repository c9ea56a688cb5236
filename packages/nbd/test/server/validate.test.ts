import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Agreement, validate } from '../../src/server/validate.ts';

const MiB = 1024 * 1024;
const agreed: Agreement = {
  size: 64 * MiB,
  writable: true,
  style: 'structured',
  contexts: 1,
  minimumBlock: 1,
  maximumPayload: 32 * MiB,
};
const request = (command: number, offset: number, length: number, flags = 0) => ({
  command,
  flags,
  offset,
  length,
  cookieHigh: 0,
  cookieLow: 0,
  offsetHigh: 0,
  offsetLow: 0,
});

/** The flags that proto.md, "Request types", documents for each command, with FUA, which all must take. */
const documented: readonly (readonly [number, number])[] = [
  [0, 1 | 4],
  [1, 1],
  [3, 1],
  [4, 1],
  [5, 1],
  [6, 1 | 2 | 16],
  [7, 1 | 8],
];
for (const [command, flags] of documented) {
  test(`command ${command} takes the flags that are documented for it and no other`, () => {
    for (let bit = 0; bit < 16; bit++) {
      const length = command === 3 ? 0 : 1;
      const refusal = validate(request(command, 0, length, 1 << bit), agreed);
      assert.equal(refusal?.errno, (flags & (1 << bit)) === 0 ? 22 : undefined, `bit ${bit}`);
    }
  });
}

test('commands that are not known are invalid', () => {
  const known = new Set(documented.map(([command]) => command));
  for (let command = 0; command < 0x10000; command++) {
    if (!known.has(command)) assert.equal(validate(request(command, 0, 0), agreed)?.errno, 22);
  }
});

test('a range may touch the end and not go beyond it', () => {
  for (const [command, errno] of [
    [0, 22],
    [1, 28],
    [4, 22],
    [5, 22],
    [6, 28],
    [7, 22],
  ] as const) {
    assert.equal(validate(request(command, 64 * MiB - 1, 1), agreed), undefined);
    assert.equal(validate(request(command, 64 * MiB - 1, 2), agreed)?.errno, errno);
    assert.equal(validate(request(command, 64 * MiB, 1), agreed)?.errno, errno);
    assert.equal(validate(request(command, 2 ** 64, 1), agreed)?.errno, errno);
  }
});

test('only what carries bytes is limited to 32 MiB', () => {
  for (const [command, errno] of [
    [0, 75],
    [1, 22],
    [4, undefined],
    [5, undefined],
    [6, undefined],
    [7, undefined],
  ] as const) {
    assert.equal(validate(request(command, 0, 32 * MiB), agreed), undefined);
    assert.equal(validate(request(command, 0, 32 * MiB + 1), agreed)?.errno, errno);
  }
});
