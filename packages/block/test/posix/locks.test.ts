import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { test } from 'node:test';
import { createFile, type DiskError, type FileSource, LOCKS, type LockMode, openFile } from '@strata/block';
import { nbdinfo, qemuHold, qemuImg, qemuNbd, requires, run, temporaryFolder } from '@strata/testkit';

interface Way {
  readonly name: 'write' | 'read' | 'read -U';
  readonly args: readonly string[];
  readonly raw: LockMode;
  readonly qcow2: LockMode;
}

const WAYS: readonly Way[] = [
  { name: 'write', args: [], raw: LOCKS.rawWrite, qcow2: LOCKS.formatWrite },
  { name: 'read', args: ['-r'], raw: LOCKS.rawRead, qcow2: LOCKS.formatRead },
  { name: 'read -U', args: ['-r', '-U'], raw: LOCKS.forceShare, qcow2: LOCKS.forceShare },
];
const FORMATS = ['raw', 'qcow2'] as const;

/** Opens as ours would; the refusal is the error's message, which is QEMU's sentence. */
async function ourHold(path: string, way: Way, format: 'raw' | 'qcow2') {
  let file: FileSource | undefined;
  let refusal: string | undefined;
  try {
    file = await openFile(path, { access: way.name === 'write' ? 'write' : 'read', lock: way[format] });
  } catch (error) {
    assert.equal((error as DiskError).code, 'busy');
    assert.equal((error as DiskError).context.path, path);
    refusal = (error as DiskError).message;
  }
  return { refusal, [Symbol.asyncDispose]: async () => file?.[Symbol.asyncDispose]() };
}

/** The bytes of a file that any lock is on. */
async function lockedBytes(path: string): Promise<number[]> {
  const { ino } = await stat(path);
  const bytes = new Set<number>();
  for (const line of (await readFile('/proc/locks', 'utf8')).split('\n')) {
    const [, inode, from, to] = /:(\d+) (\d+) (\d+)$/.exec(line) ?? [];
    if (Number(inode) !== ino) continue;
    for (let byte = Number(from); byte <= Number(to); byte++) bytes.add(byte);
  }
  return [...bytes].sort((a, b) => a - b);
}

for (const format of FORMATS) {
  for (const first of WAYS) {
    test(
      `beside a ${format} image held for ${first.name}, QEMU and ours are refused as QEMU refuses QEMU`,
      requires('qemu-io', 'qemu-img'),
      async () => {
        await using folder = await temporaryFolder();
        const path = folder.file('image');
        await qemuImg.create(path, '1M', { format });
        for (const second of WAYS) {
          let expected: string | undefined;
          {
            await using held = await qemuHold(path, format, first.args);
            assert.equal(held.refusal, undefined);
            await using other = await qemuHold(path, format, second.args);
            expected = other.refusal;
          }
          {
            await using held = await qemuHold(path, format, first.args);
            assert.equal(held.refusal, undefined);
            await using ours = await ourHold(path, second, format);
            assert.equal(ours.refusal, expected, `ours, ${second.name}, after QEMU`);
          }
          await using ours = await ourHold(path, first, format);
          assert.equal(ours.refusal, undefined);
          await using other = await qemuHold(path, format, second.args);
          assert.equal(other.refusal, expected, `QEMU, ${second.name}, after ours`);
        }
      },
    );
  }

  test(
    `ours lock the same bytes of a ${format} image as qemu-io and qemu-nbd`,
    requires('qemu-io', 'qemu-nbd', 'nbdinfo'),
    async () => {
      await using folder = await temporaryFolder();
      const path = folder.file('image');
      await qemuImg.create(path, '1M', { format });
      await using file = await openFile(path, { access: 'write' });
      const bytesOf = async (mode: LockMode): Promise<number[]> => {
        file.lock(mode);
        const bytes = await lockedBytes(path);
        file.lock(LOCKS.none);
        assert.deepEqual(await lockedBytes(path), []);
        return bytes;
      };
      for (const way of WAYS) {
        const ours = await bytesOf(way[format]);
        await using _held = await qemuHold(path, format, way.args);
        assert.deepEqual(ours, await lockedBytes(path), way.name);
      }
      const served =
        format === 'raw' ? [LOCKS.rawServeWrite, LOCKS.rawServeRead] : [LOCKS.formatWrite, LOCKS.formatRead];
      for (const [index, mode] of served.entries()) {
        const ours = await bytesOf(mode);
        const args = index === 0 ? [] : ['-r'];
        const socket = folder.file('socket');
        await using _server = await qemuNbd(path, socket, ['-f', format, ...args]);
        // It listens before it opens the image, but it answers only then.
        await nbdinfo.json(`nbd+unix:///?socket=${socket}`);
        assert.deepEqual(ours, await lockedBytes(path), `qemu-nbd ${args.join(' ')}`);
      }
    },
  );
}

/** The sentence of a qemu-img that was refused. */
async function imgRefusal(...args: readonly string[]): Promise<string | undefined> {
  const { status, stderr } = await run('qemu-img', args);
  if (status === 0) return undefined;
  return /Failed to get .* lock/.exec(stderr)?.[0] ?? stderr;
}

test(
  'info, resize and create are refused beside a writer as those of qemu-img',
  requires('qemu-io', 'qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    for (const format of FORMATS) {
      const path = folder.file(format);
      await qemuImg.create(path, '1M', { format });
      await using writer = await qemuHold(path, format, []);
      assert.equal(writer.refusal, undefined);
      await using file = await openFile(path, { access: 'write' });
      const ours = (mode: LockMode): string | undefined => {
        try {
          file.lock(mode);
          file.lock(LOCKS.none);
          return undefined;
        } catch (error) {
          return (error as Error).message;
        }
      };
      const info = format === 'raw' ? LOCKS.none : LOCKS.formatInfo;
      assert.equal(ours(info), await imgRefusal('info', '-f', format, path), 'info');
      const resize = format === 'raw' ? LOCKS.rawResize : LOCKS.formatWrite;
      assert.equal(ours(resize), await imgRefusal('resize', '-f', format, path, '1M'), 'resize');
      const expected = await imgRefusal('create', '-q', '-f', format, path, '1M');
      const created = createFile(path);
      if (expected === undefined) await (await created)[Symbol.asyncDispose]();
      else await assert.rejects(created, { code: 'busy', message: expected });
    }
  },
);

test('a lock that is refused leaves the locks that were held', {
  skip: process.platform !== 'linux',
}, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image');
  await using one = await createFile(path);
  one.lock(LOCKS.formatRead);
  await using other = await openFile(path, { access: 'write', lock: LOCKS.formatRead });
  const before = await lockedBytes(path);
  assert.throws(() => other.lock(LOCKS.formatWrite), { code: 'busy', message: 'Failed to get "write" lock' });
  assert.deepEqual(await lockedBytes(path), before);
  one.lock(LOCKS.none);
  other.lock(LOCKS.formatWrite);
  assert.deepEqual(await lockedBytes(path), [100, 101, 103, 201, 203]);
});

test('the locks end with the file', { skip: process.platform !== 'linux' }, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image');
  await using file = await createFile(path);
  assert.deepEqual(await lockedBytes(path), [101, 103, 203]);
  await file[Symbol.asyncDispose]();
  assert.deepEqual(await lockedBytes(path), []);
});
