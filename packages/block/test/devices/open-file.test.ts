import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { createFile, LOCKS, openFile } from '@strata/block';
import { requires, run, runOk, temporaryFolder } from '@strata/testkit';

/** What qemu-img says of a path, without its own prefix and the path: `qemu-img: Could not open 'x': ...`. */
async function qemuSentence(path: string): Promise<string> {
  const { stderr } = await run('qemu-img', ['info', '-f', 'raw', path]);
  return stderr.trim().replaceAll(/^qemu-img: |Could not open '[^']*': /g, '');
}

test('what cannot be opened is refused in the words of qemu-img', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  await symlink('loop', folder.file('loop'));
  await writeFile(folder.file('file'), 'x');
  await mkdir(folder.file('folder'));
  for (const [name, code] of [
    ['missing', 'not-found'],
    ['file/inside', 'not-found'],
    ['loop', 'io'],
    ['folder', 'not-supported'],
    ['x'.repeat(300), 'io'],
  ] as const) {
    const path = folder.file(name);
    const message = await qemuSentence(path);
    assert.notEqual(message, '');
    await assert.rejects(openFile(path, { access: 'read' }), { code, message });
  }
});

test('a FIFO, a socket and a character device are refused at once', async () => {
  await using folder = await temporaryFolder();
  await runOk('mkfifo', [folder.file('fifo')]);
  const server = createServer().listen(folder.file('socket'));
  await new Promise((resolve) => server.once('listening', resolve));
  for (const access of ['read', 'write'] as const) {
    for (const path of [folder.file('fifo'), '/dev/null']) {
      const message = `'file' driver requires '${path}' to be a regular file`;
      await assert.rejects(openFile(path, { access }), { code: 'not-supported', message });
    }
    const message = 'No such device or address';
    await assert.rejects(openFile(folder.file('socket'), { access }), { code: 'not-supported', message });
  }
  await assert.rejects(createFile(folder.file('fifo')), { code: 'not-supported' });
  server.close();
});

test('a folder cannot be opened for writing', async () => {
  await using folder = await temporaryFolder();
  const refusal = { code: 'not-supported', message: 'Is a directory' };
  await assert.rejects(openFile(folder.path, { access: 'write' }), refusal);
  await assert.rejects(createFile(folder.path), refusal);
});

const unprivileged = process.getuid?.() === 0 ? { skip: 'root is denied nothing' } : {};

test('a file without permission is denied', unprivileged, async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('secret'), 'x');
  await chmod(folder.file('secret'), 0);
  const refusal = { code: 'denied', message: 'Permission denied' };
  await assert.rejects(openFile(folder.file('secret'), { access: 'read' }), refusal);
});

test('an error of opening names the path in its context', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('missing');
  await assert.rejects(openFile(path, { access: 'read' }), (error: Error & { context?: object }) => {
    assert.deepEqual(error.context, { path, op: 'open' });
    return true;
  });
});

test('two names of one file have one identity, another file has another', async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('a'), 'x');
  await writeFile(folder.file('b'), 'x');
  await symlink('a', folder.file('link'));
  await using a = await openFile(folder.file('a'), { access: 'read' });
  await using link = await openFile(folder.file('link'), { access: 'read' });
  await using b = await openFile(folder.file('b'), { access: 'read' });
  assert.equal(a.identity, link.identity);
  assert.notEqual(a.identity, b.identity);
});

test('creation empties a file that is there, or refuses it', async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('a'), 'old');
  await assert.rejects(createFile(folder.file('a'), { exclusive: true }), {
    code: 'exists',
    message: 'File exists',
  });
  assert.equal(await readFile(folder.file('a'), 'utf8'), 'old');
  await using file = await createFile(folder.file('a'));
  assert.equal(file.size, 0);
  assert.equal((await stat(folder.file('a'))).size, 0);
});

test('creation leaves a file alone that somebody uses', { skip: process.platform !== 'linux' }, async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('a'), 'old');
  await using user = await openFile(folder.file('a'), { access: 'write', lock: LOCKS.formatWrite });
  await assert.rejects(createFile(folder.file('a')), {
    code: 'busy',
    message: 'Failed to get "write" lock',
  });
  assert.equal(user.size, 3);
  assert.equal(await readFile(folder.file('a'), 'utf8'), 'old');
});

test('a file whose opening failed is closed again', { skip: process.platform !== 'linux' }, async () => {
  await using folder = await temporaryFolder();
  await writeFile(folder.file('a'), 'x');
  {
    await using user = await openFile(folder.file('a'), { access: 'write', lock: LOCKS.formatWrite });
    const second = openFile(folder.file('a'), { access: 'read', lock: LOCKS.formatRead });
    await assert.rejects(second, { code: 'busy' });
    assert.equal(user.size, 1);
  }
  await using again = await openFile(folder.file('a'), { access: 'write', lock: LOCKS.formatWrite });
  assert.equal(again.size, 1);
});
