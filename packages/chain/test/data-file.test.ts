import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { test } from 'node:test';
import { type HostFile, type HostSource, isDiskError, openFile } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { DataFile } from '../src/data-file.ts';
import { allowFolders, denyAll } from '../src/gate.ts';
import type { FileUse, Place, Places } from '../src/places.ts';

/** Files, and the uses that they were locked for. */
function recordingPlaces(): Places & { readonly uses: FileUse[] } {
  const uses: FileUse[] = [];
  const open = async (path: string, access: 'read' | 'write'): Promise<Place<HostFile>> => {
    const file = await openFile(path, { access: access === 'write' ? 'write' : 'read' });
    const lock = async (use: FileUse): Promise<void> => void uses.push(use);
    return { host: file as HostSource as HostFile, identity: file.identity, realPath: resolve(path), lock };
  };
  return { uses, openSource: (path) => open(path, 'read'), openFile: (path) => open(path, 'write') };
}

test('a data file is opened through the gate and locked as data', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.data');
  await writeFile(path, 'data');
  const places = recordingPlaces();
  const options = { gate: allowFolders([folder.path]), places };
  for (const access of ['read', 'write'] as const) {
    const data = new DataFile({ path: folder.file('image'), named: undefined }, access, options, new Set());
    assert.equal(data.host, undefined);
    const host = await data.open(path);
    assert.equal(data.host, host);
    assert.equal(host.size, 4);
    await host[Symbol.asyncDispose]();
  }
  assert.deepEqual(
    places.uses.map(({ access, exclusive, isData }) => [access, exclusive, isData]),
    [
      ['read', false, true],
      ['write', false, true],
    ],
  );
});

test('a relative name begins in the folder of the process, as QEMU’s does', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.data');
  await writeFile(path, 'data');
  const options = { gate: allowFolders([folder.path]), places: recordingPlaces() };
  const name = relative(process.cwd(), path);
  const host = await new DataFile(
    { path: '/elsewhere/image', named: undefined },
    'read',
    options,
    new Set(),
  ).open(name);
  assert.equal(host.size, 4);
  await host[Symbol.asyncDispose]();
});

test('names that a gate refuses are denied before anything is opened', async () => {
  await using folder = await temporaryFolder();
  await mkdir(folder.file('images'));
  await writeFile(folder.file('secret'), 'secret');
  await symlink(folder.file('secret'), folder.file('images/link'));
  const places = recordingPlaces();
  const gate = allowFolders([folder.file('images')]);
  const open = (name: string, options = { gate, places }) =>
    new DataFile({ path: folder.file('images/top'), named: undefined }, 'read', options, new Set()).open(
      name,
    );
  for (const name of [
    folder.file('secret'),
    folder.file('images/link'),
    'json:{"driver":"null-co"}',
    'nbd://127.0.0.1/x',
    'file:/etc/passwd',
    '',
    'x'.repeat(1024),
    'a\nb',
  ]) {
    await assert.rejects(open(name), (error) => isDiskError(error, 'denied'), name.slice(0, 40));
  }
  const message = /^Data file '.*' refused: /;
  await assert.rejects(open(folder.file('secret')), { message });
  await assert.rejects(open('x', { gate: denyAll, places }), { code: 'denied', message });
  assert.equal(places.uses.length, 0);
});

test('what the caller names is opened in place of what the image says, and the gate is not asked', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('other.data');
  await writeFile(path, 'other');
  const options = { gate: denyAll, places: recordingPlaces() };
  const owner = { path: folder.file('image'), named: path };
  const host = await new DataFile(owner, 'read', options, new Set()).open('json:{}');
  assert.equal(host.size, 5);
  await host[Symbol.asyncDispose]();
});

test('a file that is in the chain already is not opened once more', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image');
  await writeFile(path, 'image');
  const places = recordingPlaces();
  const { identity, host } = await places.openSource(path);
  const seen = new Set([identity as string]);
  const options = { gate: allowFolders([folder.path]), places };
  await assert.rejects(new DataFile({ path, named: undefined }, 'read', options, seen).open(path), {
    code: 'corrupt',
  });
  await host[Symbol.asyncDispose]();
});
