/**
 * Every command of ours that writes an image has its bitmaps told: in qcow2 as QEMU's command has, and beside raw
 * images. What changed is never clean, and what does not record stays as it is.
 */
import assert from 'node:assert/strict';
import { copyFile, readFile, rm } from 'node:fs/promises';
import { test } from 'node:test';
import { DirtyBitmap, type DirtyRange } from '@strata/bitmap';
import {
  nbdinfo,
  qemuImg,
  qemuIo,
  qemuNbd,
  requires,
  runOk,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { img, imgServe } from '../img.ts';

const MiB = 2 ** 20;
const size = 8 * MiB;
const granularity = 65_536;
const names = ['recording', 'off'];

type Format = 'qcow2' | 'raw';

/** Who runs a command: ours or QEMU's. */
interface Tool {
  readonly name: 'ours' | 'theirs';
  /** `img` or `qemu-img`. */
  run(...words: readonly string[]): Promise<unknown>;
  /** Serves the image for as long as `work` takes. */
  serve(image: string, options: readonly string[], work: (uri: string) => Promise<unknown>): Promise<void>;
}

function toolsIn(folder: TemporaryFolder, format: Format): Readonly<Record<Tool['name'], Tool>> {
  const socket = folder.file('s');
  return {
    ours: {
      name: 'ours',
      run: (...words) => img.ok(...words),
      serve: async (image, options, work) => {
        await using server = await imgServe(socket, ['-f', format, ...options, image]);
        await work(server.uri);
      },
    },
    theirs: {
      name: 'theirs',
      run: (...words) => qemuImg.ok(...words),
      serve: async (image, options, work) => {
        await using _ = await qemuNbd(image, socket, ['-f', format, '--discard=unmap', ...options]);
        await work(`nbd+unix:///?socket=${socket}`);
      },
    },
  };
}

/** A command that writes. */
interface Writer {
  readonly what: string;
  /** Without it both. */
  readonly only?: Format;
  /** The bitmaps are gone, or nobody believes them, afterwards; without it they are there. */
  readonly leaves?: 'nothing dirty' | { readonly qcow2: string; readonly raw: string };
  run(tool: Tool, image: string, folder: TemporaryFolder): Promise<unknown>;
}

const writing =
  (...commands: readonly string[]): Writer['run'] =>
  (tool, image) =>
    tool.serve(image, [], (uri) => qemuIo(uri, commands, 'raw'));

async function overlay(
  image: string,
  folder: TemporaryFolder,
  name: string,
  format: string,
): Promise<string> {
  const top = folder.file(name);
  await rm(top, { force: true });
  await qemuImg.create(top, String(size), { backing: { name: image, format } });
  await qemuIo(top, ['write -P 7 1M 70k', 'write -z 5M 64k', 'write -P 9 4000k 1k']);
  return top;
}

const formatOf = async (image: string): Promise<Format> =>
  (await readFile(image)).toString('latin1', 0, 3) === 'QFI' ? 'qcow2' : 'raw';

const writers: readonly Writer[] = [
  { what: 'serve: a write', run: writing('write -P 5 1M 100k', 'write -P 6 3000k 1k') },
  { what: 'serve: zeros', run: writing('write -z 1M 100k', 'write -z -u 5M 1M') },
  { what: 'serve: a trim', run: writing('discard 5M 1M') },
  {
    what: 'serve: many writes at once',
    run: writing('aio_write -P 1 1M 1M', 'aio_write -P 2 4M 1M', 'aio_flush'),
  },
  {
    what: 'serve of a part',
    run: (tool, image) =>
      tool.serve(image, ['-o', String(2 * MiB)], (uri) => qemuIo(uri, ['write -P 5 1M 10k'], 'raw')),
  },
  {
    what: 'serve -s',
    leaves: 'nothing dirty',
    run: (tool, image) => tool.serve(image, ['-s'], (uri) => qemuIo(uri, ['write -P 5 1M 100k'], 'raw')),
  },
  {
    what: 'commit',
    run: async (tool, image, folder) =>
      tool.run('commit', '-q', '-f', 'qcow2', await overlay(image, folder, 'top', await formatOf(image))),
  },
  {
    what: 'commit past an image between',
    run: async (tool, image, folder) => {
      const between = await overlay(image, folder, 'between', await formatOf(image));
      const top = folder.file('top');
      await qemuImg.create(top, String(size), { backing: { name: between, format: 'qcow2' } });
      await qemuIo(top, ['write -P 8 6M 10k']);
      await tool.run('commit', '-q', '-f', 'qcow2', '-b', image, top);
    },
  },
  {
    what: 'convert -n',
    run: async (tool, image, folder) => {
      const source = folder.file('source');
      await rm(source, { force: true });
      await qemuImg.create(source, String(size));
      await qemuIo(source, ['write -P 3 2M 100k']);
      await tool.run('convert', '-n', '-f', 'qcow2', '-O', await formatOf(image), source, image);
    },
  },
  {
    what: 'a new image in its place',
    leaves: { qcow2: 'gone', raw: 'inconsistent' },
    run: async (tool, image, folder) => {
      const source = folder.file('source');
      await runOk('truncate', ['-s', String(size), source]);
      await tool.run('dd', '-f', 'raw', '-O', await formatOf(image), `if=${source}`, `of=${image}`);
    },
  },
  {
    what: 'resize: grow',
    run: async (tool, image) => tool.run('resize', '-q', '-f', await formatOf(image), image, '12M'),
    leaves: 'nothing dirty',
  },
  {
    what: 'resize: shrink',
    run: async (tool, image) =>
      tool.run('resize', '-q', '-f', await formatOf(image), '--shrink', image, '6M'),
    leaves: 'nothing dirty',
  },
  {
    what: 'bitmap --merge',
    run: async (tool, image, folder) => {
      const other = folder.file('other');
      await rm(other, { force: true });
      await qemuImg.create(other, String(size));
      await qemuImg.ok('bitmap', '--add', other, 'x');
      await qemuIo(other, ['write 1M 1M']);
      const from = ['--merge', 'x', '-b', other, '-F', 'qcow2'];
      await tool.run('bitmap', ...from, '-f', await formatOf(image), image, 'recording');
    },
  },
  {
    what: 'rebase',
    only: 'qcow2',
    run: async (tool, image, folder) => {
      const [old, fresh] = [folder.file('old.raw'), folder.file('fresh.raw')];
      for (const [path, byte] of [
        [old, 1],
        [fresh, 2],
      ] as const) {
        await runOk('truncate', ['-s', String(size), path]);
        await qemuIo(path, [`write -P ${byte} 7M 100k`], 'raw');
      }
      await qemuImg.ok('rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', old, image);
      await tool.run('rebase', '-f', 'qcow2', '-F', 'raw', '-b', fresh, image);
    },
  },
  {
    what: 'amend',
    only: 'qcow2',
    leaves: 'nothing dirty',
    run: (tool, image) => tool.run('amend', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', image),
  },
  {
    what: 'snapshots taken and removed',
    only: 'qcow2',
    leaves: 'nothing dirty',
    run: async (tool, image) => {
      await tool.run('snapshot', '-c', 'one', image);
      await tool.run('snapshot', '-d', 'one', image);
    },
  },
  {
    what: 'check -r',
    only: 'qcow2',
    leaves: 'nothing dirty',
    run: (tool, image) => tool.run('check', '-q', '-f', 'qcow2', '-r', 'all', image),
  },
];

async function made(folder: TemporaryFolder, format: Format, name: string): Promise<string> {
  const image = folder.file(name);
  await qemuImg.ok('create', '-q', '-f', format, image, String(size));
  await qemuIo(image, ['write -P 1 0 6M'], format);
  for (const [index, bitmap] of names.entries()) {
    const state = index === 0 ? [] : ['--disable'];
    await img.ok('bitmap', '--add', ...state, '-g', String(granularity), '-f', format, image, bitmap);
  }
  return image;
}

interface Listed {
  readonly name: string;
  readonly recording: boolean;
  readonly inconsistent?: true;
  readonly count?: number;
}

const listed = async (image: string, format: Format): Promise<readonly Listed[]> =>
  JSON.parse(await img.ok('bitmap', '--list', '--output=json', '-f', format, image)) as Listed[];

async function dirtyRanges(
  image: string,
  format: Format,
  folder: TemporaryFolder,
): Promise<readonly DirtyRange[]> {
  await using server = await imgServe(folder.file('u'), ['-r', '-f', format, '-B', 'recording', image]);
  const map = await nbdinfo.map(server.uri, 'qemu:dirty-bitmap:recording');
  return map.filter(({ type }) => type === 1).map(({ offset, length }) => ({ offset, length }));
}

/** What the guest reads, from its start to its end. */
async function contentOf(image: string, format: Format, folder: TemporaryFolder): Promise<Buffer> {
  const copy = folder.file('copy.raw');
  await qemuImg.ok('convert', '-U', '-f', format, '-O', 'raw', image, copy);
  return readFile(copy);
}

/** The granules in which `before` and `after` differ and which `dirty` does not have. */
function missed(before: Buffer, after: Buffer, dirty: readonly DirtyRange[]): readonly number[] {
  const length = Math.min(before.length, after.length);
  const bitmap = new DirtyBitmap(Math.max(before.length, after.length), granularity);
  for (const range of dirty) bitmap.set(range.offset, range.length);
  const found: number[] = [];
  for (let at = 0; at < length; at += granularity) {
    const end = Math.min(at + granularity, length);
    if (!before.subarray(at, end).equals(after.subarray(at, end)) && !bitmap.isDirty(at)) found.push(at);
  }
  return found;
}

const stateOf = (bitmaps: readonly Listed[]): string => {
  const [first] = bitmaps;
  if (first === undefined) return 'gone';
  return first.inconsistent ? 'inconsistent' : 'there';
};

const peers = requires('qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo');
for (const format of ['qcow2', 'raw'] as const) {
  for (const writer of writers.filter(({ only = format }) => only === format)) {
    test(`${format}, ${writer.what}: what changed is dirty, as with QEMU`, peers, async () => {
      await using folder = await temporaryFolder();
      const ours = await made(folder, format, 'ours');
      const theirs = folder.file('theirs');
      if (format === 'qcow2') await copyFile(ours, theirs);
      const tools = toolsIn(folder, format);
      const before = await contentOf(ours, format, folder);
      await writer.run(tools.ours, ours, folder);
      const bitmaps = await listed(ours, format);
      const wanted = typeof writer.leaves === 'object' ? writer.leaves[format] : 'there';
      assert.equal(stateOf(bitmaps), wanted);
      if (wanted !== 'there') return;
      assert.deepEqual(
        bitmaps.map(({ name, recording }) => [name, recording]),
        [
          ['recording', true],
          ['off', false],
        ],
      );
      const after = await contentOf(ours, format, folder);
      assert.deepEqual(missed(before, after, await dirtyRanges(ours, format, folder)), []);
      assert.equal((bitmaps[0]?.count ?? 0) > 0, writer.leaves !== 'nothing dirty');
      assert.equal(bitmaps[1]?.count, 0);
      if (format === 'raw') return;
      assert.equal((await qemuImg.check(ours)).status, 0);
      await writer.run(tools.theirs, theirs, folder);
      assert.deepEqual(bitmaps, await listed(theirs, format));
      assert.deepEqual(await dirtyRanges(ours, format, folder), await dirtyRanges(theirs, format, folder));
    });
  }
}

test('a snapshot is not applied to an image with bitmaps: QEMU refuses too', peers, async () => {
  await using folder = await temporaryFolder();
  const image = await made(folder, 'qcow2', 'image');
  await qemuImg.ok('snapshot', '-c', 'one', image);
  const { status, stderr } = await img.run('snapshot', '-a', 'one', image);
  assert.equal(status, 1);
  assert.match(stderr, /Device has active dirty bitmaps/);
  assert.equal(stateOf(await listed(image, 'qcow2')), 'there');
});
