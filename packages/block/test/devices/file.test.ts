import assert from 'node:assert/strict';
import { existsSync, fstatSync, openSync } from 'node:fs';
import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { checkedDevice, createFile, LOCKS, openFile, type WritableFile } from '@strata/block';
import { assertSameBytes, blockSuite, randomFrom, temporaryFolder } from '@strata/testkit';
import { FileDevice } from '../../src/devices/file.ts';

const SIZE = 300_001;
const onLinux = process.platform === 'linux' ? {} : { skip: 'holes are told on Linux only' };

/** Regular files on a disk's file system and, where there is one, in memory. */
const places = [
  { name: 'a file on disk', parent: tmpdir() },
  { name: 'a file in memory (tmpfs)', parent: '/dev/shm' },
].filter(({ parent }) => existsSync(parent));

for (const { name, parent } of places) {
  blockSuite({
    name,
    open: async () => {
      const folder = await temporaryFolder(parent);
      let file = await createFile(folder.file('disk'));
      await file.truncate(SIZE);
      return {
        device: checkedDevice(file),
        reopen: async () => {
          await file[Symbol.asyncDispose]();
          file = await openFile(folder.file('disk'), { access: 'write' });
          return checkedDevice(file);
        },
        [Symbol.asyncDispose]: async () => {
          await file[Symbol.asyncDispose]();
          await folder[Symbol.asyncDispose]();
        },
      };
    },
  });
}

blockSuite({
  name: 'a file on a host without the calls of Linux',
  open: async () => {
    const folder = await temporaryFolder();
    const path = folder.file('disk');
    await writeFile(path, new Uint8Array(SIZE));
    let file = plainFile(path, openSync(path, 'r+'));
    return {
      device: checkedDevice(file),
      reopen: async () => {
        await file[Symbol.asyncDispose]();
        file = plainFile(path, openSync(path, 'r+'));
        return checkedDevice(file);
      },
      [Symbol.asyncDispose]: async () => {
        await file[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  },
});

/** A file as it is opened where the C library cannot be called. */
function plainFile(path: string, fd: number): FileDevice {
  const size = fstatSync(fd).size;
  const syncFolder = undefined;
  return new FileDevice({
    fd,
    path,
    size,
    syncFolder,
    identity: path,
    kind: 'file',
    libc: undefined,
    medium: 'disk',
  });
}

test('a host without the calls of Linux shows it in what a file can, and locks nothing', async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('disk'), new Uint8Array(100_000).fill(7));
  await using file = plainFile(folder.file('disk'), openSync(folder.file('disk'), 'r+'));
  assert.deepEqual(file.caps, { blockSize: 4096, zero: 'emulated', discard: 'ignored' });
  await assert.rejects(file.zero(0, 10, { fast: true }), { code: 'not-supported' });
  assert.deepEqual(file.tryExtentAt(5, 200_000), { offset: 5, length: 99_995, kind: 'data', depth: 1 });
  assert.equal(file.tryRead(new Uint8Array(1), 0), false);
  await file.zero(50_000, 200_000);
  assert.equal(file.size, 250_000);
  const into = new Uint8Array(250_000);
  await file.read(into, 0);
  assert.equal(into.lastIndexOf(7), 49_999);
  file.lock(LOCKS.formatWrite);
});

/** Runs `use` with a file that holds `bytes`. */
async function withFile(bytes: Uint8Array, use: (file: WritableFile) => Promise<void>): Promise<void> {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('disk'), bytes);
  await using file = await openFile(folder.file('disk'), { access: 'write' });
  await use(file);
}

test('a write past the end extends the file, and the gap reads as zeros', () =>
  withFile(Uint8Array.of(1, 2, 3), async (file) => {
    await file.write(Uint8Array.of(9), 100_000);
    assert.equal(file.size, 100_001);
    assert.equal((await stat(file.path)).size, 100_001);
    const into = new Uint8Array(100_001).fill(7);
    await file.read(into, 0);
    assertSameBytes(into.subarray(0, 4), Uint8Array.of(1, 2, 3, 0));
    assert.equal(into[100_000], 9);
  }));

test('bytes past the end read as zeros, by both ways', () =>
  withFile(Uint8Array.of(1, 2, 3), async (file) => {
    for (const offset of [0, 2, 3, 2 ** 52]) {
      const into = new Uint8Array(8).fill(7);
      await file.read(into, offset);
      const expected = new Uint8Array(8);
      expected.set([1, 2, 3].slice(Math.min(offset, 3)));
      assertSameBytes(into, expected);
      into.fill(7);
      if (file.tryRead(into, offset)) assertSameBytes(into, expected);
    }
  }));

test('what was just written is read without waiting', onLinux, () =>
  withFile(new Uint8Array(0), async (file) => {
    const data = randomFrom(3).bytes(100_000);
    await file.write(data, 0);
    const frame = new Uint8Array(100_020);
    assert.equal(file.tryRead(frame.subarray(5, 100_005), 0), true);
    assertSameBytes(frame.subarray(5, 100_005), data);
    assertSameBytes(frame.subarray(100_005), new Uint8Array(15));
  }),
);

test('a read into a shared buffer is right', () =>
  withFile(Uint8Array.of(1, 2, 3), async (file) => {
    const into = new Uint8Array(new SharedArrayBuffer(3));
    if (!file.tryRead(into, 0)) await file.read(into, 0);
    assert.deepEqual([...into], [1, 2, 3]);
  }));

test('a file that somebody cut reads as zeros there', () =>
  withFile(new Uint8Array(50_000).fill(7), async (file) => {
    await truncate(file.path, 10_000);
    const into = new Uint8Array(20_000);
    assert.equal(file.tryRead(into, 0), false);
    await file.read(into, 0);
    assert.equal(into.lastIndexOf(7), 9_999);
    assert.equal((await file.extentAt(20_000, 10)).kind, 'zero');
  }));

test('zeroed and discarded ranges become holes and give their space back', onLinux, () =>
  withFile(new Uint8Array(1 << 20).fill(7), async (file) => {
    const before = (await file.allocated()) ?? 0;
    await file.zero(1 << 18, 1 << 18);
    await file.discard(3 << 18, 1 << 18);
    assert.deepEqual(file.tryExtentAt(0, 1 << 20), { offset: 0, length: 1 << 18, kind: 'data', depth: 1 });
    assert.deepEqual(file.tryExtentAt(1 << 18, 1 << 20), {
      offset: 1 << 18,
      length: 1 << 18,
      kind: 'zero',
      depth: 1,
    });
    assert.deepEqual(await file.extentAt(3 << 18, 1 << 30), {
      offset: 3 << 18,
      length: 1 << 18,
      kind: 'zero',
      depth: 1,
    });
    assert.ok(before - ((await file.allocated()) ?? 0) >= 1 << 19);
    assert.equal(file.size, 1 << 20);
  }),
);

test('a range zeroed with space reserved keeps its space', onLinux, () =>
  withFile(new Uint8Array(1 << 20).fill(7), async (file) => {
    const before = (await file.allocated()) ?? 0;
    await file.zero(0, 1 << 20, { allocate: true });
    await file.zero(1 << 20, 1 << 20, { allocate: true });
    assert.ok(((await file.allocated()) ?? 0) >= before + (1 << 20));
    assert.equal(file.size, 2 << 20);
  }),
);

test('zeroing past the end extends the file without taking space', onLinux, () =>
  withFile(Uint8Array.of(7), async (file) => {
    await file.zero(0, 1 << 30);
    assert.equal(file.size, 1 << 30);
    assert.equal((await stat(file.path)).size, 1 << 30);
    assert.ok(((await file.allocated()) ?? 0) <= 8192);
    assert.equal((await file.extentAt(0, 1 << 30)).kind, 'zero');
  }),
);

test('zeroing past the end does not cut what a write in flight puts further on', () =>
  withFile(new Uint8Array(0), async (file) => {
    for (let round = 0; round < 50; round++) {
      const at = round * 10_000;
      await Promise.all([file.write(Uint8Array.of(9), at + 9_999), file.zero(at, 5_000)]);
    }
    const bytes = await readFile(file.path);
    assert.equal(bytes.length, 500_000);
    for (let round = 0; round < 50; round++) assert.equal(bytes[round * 10_000 + 9_999], 9);
  }));

test('truncation cuts and extends, and what was cut does not come back', () =>
  withFile(new Uint8Array(10_000).fill(7), async (file) => {
    await file.truncate(5_000);
    await file.truncate(10_000);
    assert.equal(file.size, 10_000);
    const into = new Uint8Array(10_000);
    await file.read(into, 0);
    assert.equal(into.lastIndexOf(7), 4_999);
  }));

test('data that is discarded is told as a hole at once, though it was just told as data', onLinux, () =>
  withFile(new Uint8Array(1 << 20).fill(7), async (file) => {
    assert.equal(file.tryExtentAt(65536, 65536)?.kind, 'data');
    await file.discard(0, 1 << 20);
    assert.equal(file.tryExtentAt(65536, 65536)?.kind, 'zero');
  }),
);

test('a failure says which file, where and what', () =>
  withFile(new Uint8Array(10), async (file) => {
    await using readOnly = (await openFile(file.path, { access: 'read' })) as WritableFile;
    await assert.rejects(readOnly.write(Uint8Array.of(1), 5), (error: Error & { context?: object }) => {
      assert.deepEqual(error.context, { path: file.path, offset: 5, op: 'write' });
      assert.equal(error.message, 'Bad file descriptor');
      return true;
    });
  }));

test('disposal waits for calls in flight', () =>
  withFile(new Uint8Array(0), async (file) => {
    const data = randomFrom(4).bytes(1 << 20);
    const writes = Array.from({ length: 20 }, (_, i) => file.write(data, i << 20));
    const closing = file[Symbol.asyncDispose]();
    await Promise.all(writes);
    await closing;
    assert.equal((await stat(file.path)).size, 20 << 20);
  }));
