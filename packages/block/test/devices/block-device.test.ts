import assert from 'node:assert/strict';
import { truncate, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { checkedDevice, createFile, openFile } from '@strata/block';
import { assertSameBytes, blockSuite, requires, run, runOk, temporaryFolder } from '@strata/testkit';

const SIZE = 300_032;

/** A block device of this machine: a loop device over a file. */
async function loopDevice() {
  const folder = await temporaryFolder();
  await writeFile(folder.file('disk'), '');
  await truncate(folder.file('disk'), SIZE);
  const path = (await runOk('losetup', ['--find', '--show', folder.file('disk')])).trim();
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await runOk('losetup', ['--detach', path]);
      await folder[Symbol.asyncDispose]();
    },
  };
}

const tool = requires('losetup');
const probe = tool.skip ? undefined : await run('losetup', ['--find']);
const needs = probe && probe.status !== 0 ? { skip: `no loop device: ${probe.stderr.trim()}` } : tool;

blockSuite({
  name: 'a block device',
  needs,
  open: async () => {
    const loop = await loopDevice();
    let file = await openFile(loop.path, { access: 'write' });
    return {
      device: checkedDevice(file),
      reopen: async () => {
        await file[Symbol.asyncDispose]();
        file = await openFile(loop.path, { access: 'write' });
        return checkedDevice(file);
      },
      [Symbol.asyncDispose]: async () => {
        await file[Symbol.asyncDispose]();
        await loop[Symbol.asyncDispose]();
      },
    };
  },
});

test('a block device has its own size and keeps it', needs, async () => {
  await using loop = await loopDevice();
  await using file = await openFile(loop.path, { access: 'write' });
  assert.equal(file.size, SIZE);
  await assert.rejects(file.truncate(SIZE + 1), { code: 'no-space', message: 'Cannot grow device files' });
  await assert.rejects(file.truncate(SIZE - 1), {
    code: 'not-supported',
    message: 'Cannot resize device files',
  });
  await file.truncate(SIZE);
  await assert.rejects(file.write(new Uint8Array(10), SIZE), { code: 'no-space' });
  assert.equal(file.size, SIZE);
});

test('to create a block device leaves its size and bytes', needs, async () => {
  await using loop = await loopDevice();
  {
    await using file = await openFile(loop.path, { access: 'write' });
    await file.write(Uint8Array.of(1, 2, 3), 1000);
  }
  await using file = await createFile(loop.path);
  assert.equal(file.size, SIZE);
  const into = new Uint8Array(3);
  await file.read(into, 1000);
  assertSameBytes(into, Uint8Array.of(1, 2, 3));
});
