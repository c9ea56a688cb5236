/** Key slots changed by `img amend` and by qemu-img: the same refusals, and each opens what the other changed. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { qemuImg, requires, run, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

const secrets = ['s', 't'].flatMap((id) => ['--object', `secret,id=${id},data=words of ${id}`]);

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

const qemuAmend = (...words: readonly string[]) => qemuImg.run('amend', ...words);

const refusals: readonly (readonly [string, unknown][])[] = [
  [['new-secret', 't']],
  [['state', 'foo']],
  [['state', 'active']],
  [
    ['state', 'active'],
    ['new-secret', 'nobody'],
  ],
  [
    ['state', 'active'],
    ['new-secret', 't'],
    ['old-secret', 's'],
  ],
  [
    ['state', 'active'],
    ['new-secret', 't'],
    ['keyslot', 9],
  ],
  [
    ['state', 'active'],
    ['new-secret', 't'],
    ['keyslot', 0],
  ],
  [['state', 'inactive']],
  [
    ['state', 'inactive'],
    ['new-secret', 't'],
  ],
  [
    ['state', 'inactive'],
    ['keyslot', 0],
    ['iter-time', 10],
  ],
  [
    ['state', 'inactive'],
    ['keyslot', 0],
  ],
  [
    ['state', 'inactive'],
    ['keyslot', 3],
  ],
  [
    ['state', 'inactive'],
    ['old-secret', 's'],
  ],
  [
    ['state', 'inactive'],
    ['old-secret', 't'],
  ],
  [
    ['state', 'inactive'],
    ['keyslot', 0],
    ['old-secret', 't'],
  ],
];

for (const [format, prefix] of [
  ['luks', ''],
  ['qcow2', 'encrypt.'],
] as const) {
  const list = (options: readonly (readonly [string, unknown])[]) =>
    options.map(([name, value]) => `${prefix}${name}=${value}`).join();
  const opened = (path: string, id: string) =>
    `driver=${format},${prefix}key-secret=${id},file.filename=${path}`;

  test(
    `what qemu-img refuses of the key slots of a ${format} image is refused in its words`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const path = folder.file('image');
      const first = format === 'luks' ? [] : [['format', 'luks'] as const];
      const made = list([...first, ['key-secret', 's'], ['iter-time', 10]]);
      assert.equal((await img('create', '-q', ...secrets, '-f', format, '-o', made, path, '1M')).status, 0);
      const before = readFileSync(path);
      for (const options of refusals) {
        const words = [...secrets, '-o', list(options), '--image-opts', opened(path, 's')];
        const theirs = await qemuAmend(...words);
        const ours = await img('amend', ...words);
        assert.deepEqual({ ...ours, stderr: ours.stderr.replace(/^img:/, 'qemu-img:') }, theirs);
        assert.ok(readFileSync(path).equals(before), `${list(options)} changed the image`);
      }
    },
  );

  test(
    `passphrases of a ${format} image are added and erased here and there`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const path = folder.file('image');
      const first = format === 'luks' ? [] : [['format', 'luks'] as const];
      const made = list([...first, ['key-secret', 's'], ['iter-time', 10]]);
      assert.equal((await img('create', '-q', ...secrets, '-f', format, '-o', made, path, '1M')).status, 0);
      const opens = async (id: string): Promise<boolean> => {
        const { status } = await run('qemu-io', [...secrets, '-c', 'quit', '--image-opts', opened(path, id)]);
        const ours = await img('compare', ...secrets, '--image-opts', opened(path, id), opened(path, id));
        assert.equal(ours.status === 0, status === 0, 'both open it or neither');
        return status === 0;
      };
      const amend = async (by: 'us' | 'qemu', id: string, ...options: [string, unknown][]) => {
        const words = [...secrets, '-o', list(options), '--image-opts', opened(path, id)];
        const { status, stderr } = by === 'us' ? await img('amend', ...words) : await qemuAmend(...words);
        assert.deepEqual([status, stderr], [0, '']);
      };
      await amend('us', 's', ['state', 'active'], ['new-secret', 't'], ['iter-time', 10]);
      assert.deepEqual([await opens('s'), await opens('t')], [true, true]);
      await amend('qemu', 't', ['state', 'inactive'], ['old-secret', 's']);
      assert.deepEqual([await opens('s'), await opens('t')], [false, true]);
      await amend('qemu', 't', ['state', 'active'], ['new-secret', 's'], ['keyslot', 7], ['iter-time', 10]);
      await amend('us', 't', ['state', 'inactive'], ['keyslot', 1]);
      assert.deepEqual([await opens('s'), await opens('t')], [true, false]);

      const copy = folder.file('copy');
      copyFileSync(path, copy);
      const last = [
        ...secrets,
        '--force',
        '-o',
        list([
          ['state', 'inactive'],
          ['keyslot', 7],
        ]),
        '--image-opts',
      ];
      assert.equal((await img('amend', ...last, opened(path, 's'))).status, 0);
      assert.equal((await qemuAmend(...last, opened(copy, 's'))).status, 0);
      assert.equal(await opens('s'), false, 'the last key is gone by force');
    },
  );
}
