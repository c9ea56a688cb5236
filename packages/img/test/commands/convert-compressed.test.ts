/** `convert -c`: what is written, into what, and that the real tools take it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { qemuImg, qemuIo, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

async function img(...words: readonly string[]): Promise<void> {
  const terminal = recordingTerminal();
  assert.equal(await main(words, terminal), 0, terminal.stderr());
}

async function printed(...words: readonly string[]): Promise<string> {
  const terminal = recordingTerminal();
  assert.equal(await main(words, terminal), 0, terminal.stderr());
  return terminal.stdout();
}

/** Words, noise and zeros in pieces that no cluster size divides. */
function mixed(length: number): Buffer {
  const words = Buffer.from('the quick brown fox jumps over the lazy dog 0123456789\n'.repeat(3000));
  const parts: Buffer[] = [];
  for (let i = 0; parts.reduce((sum, part) => sum + part.length, 0) < length; i++) {
    const size = 70_000 + 1000 * i;
    const kinds = [words.subarray(i, i + size), randomBytes(size), Buffer.alloc(3 * size)];
    parts.push(kinds[i % 3] as Buffer);
  }
  return Buffer.concat(parts).subarray(0, length);
}

async function assertClean(path: string, source: string, format = 'raw'): Promise<number> {
  const { status, report, stderr } = await qemuImg.check(path);
  assert.equal(status, 0, stderr);
  await qemuImg.compare(path, 'qcow2', source, format);
  return report['compressed-clusters'] ?? 0;
}

const needs = requires('qemu-img', 'qemu-io');

test('every kind of target is clean, equal, smaller, and the same in every run', needs, async () => {
  await using folder = await temporaryFolder();
  const [source, path, again] = [folder.file('source'), folder.file('image'), folder.file('again')];
  const bytes = mixed(7 * 2 ** 20 + 1536);
  writeFileSync(source, bytes);
  for (const clusterSize of ['512', '4k', '64k', '2M'])
    for (const options of ['compat=0.10', 'compression_type=zlib', 'compression_type=zstd,refcount_bits=1']) {
      const list = `cluster_size=${clusterSize},${options}`;
      await img('convert', '-c', '-O', 'qcow2', '-o', list, source, path);
      assert.ok((await assertClean(path, source)) > 0, list);
      if (clusterSize !== '2M') assert.ok(statSync(path).size < bytes.length * 0.8, list);
      await img('convert', '-c', '-O', 'qcow2', '-m', '2', '-o', list, source, again);
      assert.ok(readFileSync(again).equals(readFileSync(path)), list);
    }
});

test('what qemu-img compresses is read, mapped and checked alike', needs, async () => {
  await using folder = await temporaryFolder();
  const [source, path, out] = [folder.file('source'), folder.file('image'), folder.file('out')];
  const bytes = mixed(5 * 2 ** 20 + 512);
  writeFileSync(source, bytes);
  for (const clusterSize of ['512', '4k', '64k', '2M'])
    for (const options of ['compat=0.10', 'compression_type=zlib', 'compression_type=zstd']) {
      const list = `cluster_size=${clusterSize},${options}`;
      await qemuImg.ok('convert', '-c', '-O', 'qcow2', '-o', list, source, path);
      // Over compressed clusters, in part and as a whole: they share host clusters with others.
      await qemuIo(path, ['write -P 3 70000 3000', 'write -z 1M 64k', 'discard 3M 1M']);
      await img('convert', '-f', 'qcow2', '-O', 'raw', path, out);
      await qemuImg.compare(path, 'qcow2', out, 'raw');
      for (const verb of ['map', 'check', 'info'])
        assert.equal(
          await printed(verb, '--output=json', path),
          await qemuImg.ok(verb, '--output=json', path),
          list,
        );
    }
});

test('it is hardly larger than what qemu-img makes, and a higher level is smaller', needs, async () => {
  await using folder = await temporaryFolder();
  const [source, ours, theirs] = [folder.file('source'), folder.file('ours'), folder.file('theirs')];
  // Programs are what disks are full of.
  writeFileSync(source, readFileSync(process.execPath).subarray(0, 24 * 2 ** 20));
  for (const type of ['zlib', 'zstd']) {
    const target = ['-O', 'qcow2', '-o', `compression_type=${type}`, source];
    await img('convert', '-c', ...target, ours);
    await qemuImg.ok('convert', '-c', ...target, theirs);
    const size = statSync(ours).size;
    assert.ok(size < 1.02 * statSync(theirs).size, `${type}: ${size} of ${statSync(theirs).size}`);
    const highest = type === 'zlib' ? '9' : '19';
    await img('convert', '-c', '--compression-level', highest, ...target, ours);
    assert.ok(statSync(ours).size < size);
    await assertClean(ours, source);
  }
});

async function baseAndTop(folder: TemporaryFolder): Promise<string> {
  const [base, top] = [folder.file('base'), folder.file('top')];
  await qemuImg.create(base, '3M');
  await qemuIo(base, ['write -P 1 0 3M']);
  await qemuImg.create(top, '4M', { backing: { name: base, format: 'qcow2' } });
  // Parts of clusters of 2 MiB, zeros above data, and what only the top has.
  await qemuIo(top, ['write -P 2 100k 64k', 'write -z 1M 128k', 'write -P 3 3500k 100k']);
  return top;
}

test('an overlay is written over a base, and shows what the source shows', needs, async () => {
  await using folder = await temporaryFolder();
  const top = await baseAndTop(folder);
  const path = folder.file('overlay');
  for (const clusterSize of ['512', '64k', '2M']) {
    const list = `cluster_size=${clusterSize},compression_type=zstd`;
    const target = ['-B', folder.file('base'), '-F', 'qcow2', '-o', list];
    await img('convert', '-c', '-O', 'qcow2', ...target, top, path);
    assert.ok((await assertClean(path, top, 'qcow2')) > 0, clusterSize);
    assert.ok(statSync(path).size < 2 ** 20 || clusterSize === '2M');
  }
});

test('disks that are put one after another may meet inside a cluster', needs, async () => {
  await using folder = await temporaryFolder();
  const names = ['a', 'b', 'c'].map((name) => folder.file(name));
  const parts = [mixed(100_352), Buffer.alloc(70_144, 5), mixed(300_032)];
  for (const [index, name] of names.entries()) writeFileSync(name, parts[index] as Buffer);
  const [path, whole] = [folder.file('image'), folder.file('whole')];
  writeFileSync(whole, Buffer.concat(parts));
  await img('convert', '-c', '-O', 'qcow2', ...names, path);
  assert.ok((await assertClean(path, whole)) > 0);
});

test('what an existing image holds is replaced', needs, async () => {
  await using folder = await temporaryFolder();
  const [source, path] = [folder.file('source'), folder.file('image')];
  writeFileSync(source, mixed(3 * 2 ** 20));
  await qemuImg.create(path, '3M');
  await qemuIo(path, ['write -P 9 0 1M', 'write -c -P 8 1M 1M', 'write -z 2M 1M']);
  await qemuImg.ok('snapshot', '-c', 'before', path);
  await qemuIo(path, ['write -P 7 512k 1M']);
  for (let round = 0; round < 2; round++) {
    await img('convert', '-c', '-n', '-O', 'qcow2', source, path);
    assert.ok((await assertClean(path, source)) > 0);
  }
  await qemuImg.ok('snapshot', '-a', 'before', path);
  const old = folder.file('old');
  writeFileSync(
    old,
    Buffer.concat([Buffer.alloc(2 ** 20, 9), Buffer.alloc(2 ** 20, 8), Buffer.alloc(2 ** 20)]),
  );
  await assertClean(path, old);
});

test('with -S 0 zeros are written as well', needs, async () => {
  await using folder = await temporaryFolder();
  const [source, path] = [folder.file('source'), folder.file('image')];
  writeFileSync(source, Buffer.alloc(2 ** 20));
  await img('convert', '-c', '-S', '0', '-O', 'qcow2', source, path);
  assert.equal(await assertClean(path, source), 16);
  assert.ok((await qemuImg.map(path)).every(({ data }) => data));
});

test('a target without compression is refused before anything is copied', needs, async () => {
  await using folder = await temporaryFolder();
  const [source, path] = [folder.file('source'), folder.file('image')];
  writeFileSync(source, mixed(2 ** 20));
  await qemuImg.create(path, '1M', { options: { data_file: folder.file('data') } });
  const terminal = recordingTerminal();
  assert.equal(await main(['convert', '-c', '-n', '-O', 'qcow2', source, path], terminal), 1);
  assert.match(terminal.stderr(), /at byte 0: Operation not supported$/m);
});

test(
  'nothing is compressed into an encrypted image, where it would lie in the clear; what is there is read',
  needs,
  async () => {
    await using folder = await temporaryFolder();
    const [source, path, out] = [folder.file('source'), folder.file('image'), folder.file('out')];
    const bytes = mixed(2 ** 20);
    writeFileSync(source, bytes);
    const secret = ['--object', 'secret,id=s,data=abc'];
    const list = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    await qemuImg.ok('create', '-q', ...secret, '-f', 'qcow2', '-o', list, path, '1M');
    const target = [
      '-n',
      '--target-image-opts',
      source,
      `driver=qcow2,file.filename=${path},encrypt.key-secret=s`,
    ];
    const refused = recordingTerminal();
    const asRaw = ['-n', '--target-image-opts', source, `driver=raw,file.filename=${path}`];
    assert.equal(await main(['convert', '-c', '-f', 'raw', ...asRaw], refused), 1);
    assert.match(refused.stderr(), /Compression not supported for this file format/);
    const terminal = recordingTerminal();
    assert.equal(await main(['convert', '-c', ...secret, '-f', 'raw', ...target], terminal), 1);
    assert.match(terminal.stderr(), /at byte 0: Compression and encryption not supported at the same time$/m);

    await qemuImg.ok('convert', '-c', ...secret, '-f', 'raw', ...target);
    const described = ['--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=s`];
    await img('convert', ...secret, ...described, '-O', 'raw', out);
    assert.ok(readFileSync(out).equals(bytes));
  },
);
