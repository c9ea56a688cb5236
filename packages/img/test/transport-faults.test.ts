import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkedDevice, MemoryDevice } from '@strata/block';
import { listen } from '@strata/nbd';
import {
  type Cut,
  cuttingProxy,
  nbdkit,
  randomFrom,
  requires,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { main } from '../src/cli.ts';
import { recordingTerminal } from './recording-terminal.ts';

const size = 3 << 20;

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

/** Bytes with zeros in between, so that every kind of request is made. */
function content(): Buffer {
  const bytes = Buffer.from(randomFrom(5).bytes(size));
  bytes.fill(0, 1 << 20, (1 << 20) + 300_000);
  bytes.fill(0, 2 << 20, (2 << 20) + 65_536);
  return bytes;
}

/** A server in memory behind a proxy that cuts the connection as it is told. */
async function cutServer(
  folder: TemporaryFolder,
  bytes: Buffer,
  cutOf: (connection: number) => Cut | undefined,
) {
  const disk = new MemoryDevice(size);
  await disk.write(bytes, 0);
  const device = checkedDevice(disk);
  const server = await listen({ exports: [{ name: '', device }], address: { path: folder.file('server') } });
  const proxy = await cuttingProxy(folder.file('proxy'), folder.file('server'), cutOf);
  return {
    uri: `nbd+unix:///?socket=${folder.file('proxy')}`,
    proxy,
    bytes: async (): Promise<Buffer> => {
      const found = Buffer.alloc(size);
      await disk.read(found, 0);
      return found;
    },
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      await server.close({ graceMs: 0 });
    },
  };
}

type Server = Awaited<ReturnType<typeof cutServer>>;

interface Job {
  readonly words: (uri: string, folder: TemporaryFolder) => readonly string[];
  /** What stands on the server first. */
  readonly served: (bytes: Buffer) => Buffer;
  /** True if the work that a status of 0 claims is done. */
  readonly isDone: (
    server: Server,
    folder: TemporaryFolder,
    bytes: Buffer,
    stdout: string,
  ) => Promise<boolean>;
}

const jobs: Readonly<Record<string, Job>> = {
  'convert from an export': {
    words: (uri, folder) => ['convert', '-f', 'raw', '-O', 'raw', uri, folder.file('out')],
    served: (bytes) => bytes,
    isDone: async (_server, folder, bytes) => readFileSync(folder.file('out')).equals(bytes),
  },
  'convert to an export': {
    words: (uri, folder) => ['convert', '-n', '-f', 'raw', '-O', 'raw', folder.file('raw'), uri],
    served: () => Buffer.alloc(size, 0xee),
    isDone: async (server, _folder, bytes) => (await server.bytes()).equals(bytes),
  },
  'convert to an export with flushing': {
    words: (uri, folder) => [
      'convert',
      '-n',
      '-t',
      'writeback',
      '-f',
      'raw',
      '-O',
      'raw',
      folder.file('raw'),
      uri,
    ],
    served: () => Buffer.alloc(size, 0xee),
    isDone: async (server, _folder, bytes) => (await server.bytes()).equals(bytes),
  },
  compare: {
    words: (uri, folder) => ['compare', '-f', 'raw', '-F', 'raw', folder.file('raw'), uri],
    served: (bytes) => bytes,
    isDone: async (_server, _folder, _bytes, stdout) => stdout === 'Images are identical.\n',
  },
  map: {
    words: (uri) => ['map', '--context=base:allocation', uri],
    served: (bytes) => bytes,
    isDone: async (_server, _folder, _bytes, stdout) => lengthOf(stdout) === size,
  },
};

/** How much of the disk the lines of a map tell of. */
function lengthOf(stdout: string): number {
  return stdout
    .trimEnd()
    .split('\n')
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[1]), 0);
}

/** Every byte of the handshake and of the first requests, then here and there up to the end. */
function places(total: number, step: number): readonly number[] {
  const early = Array.from({ length: 12 }, (_, index) => 1 + index * 79).filter((at) => at < total);
  const later: number[] = [];
  for (let at = 1000; at < total + step; at += step) later.push(at);
  return [...early, ...later];
}

for (const [claim, job] of Object.entries(jobs)) {
  test(`${claim}: cut anywhere, a status of 0 means that nothing is lost`, async () => {
    await using folder = await temporaryFolder();
    const bytes = content();
    writeFileSync(folder.file('raw'), bytes);
    const run = async (cut: Cut | undefined, ...more: readonly string[]) => {
      // The first connection is cut, so that those of a reconnect go through.
      await using server = await cutServer(folder, job.served(bytes), (index) =>
        index === 0 ? cut : undefined,
      );
      const words = job.words(server.uri, folder);
      const ended = await img(...words.slice(0, 1), ...more, ...words.slice(1));
      const isDone = ended.status === 0 && (await job.isDone(server, folder, bytes, ended.stdout));
      return { ...ended, isDone, moved: { ...server.proxy.bytes } };
    };
    const whole = await run(undefined);
    assert.ok(whole.status === 0 && whole.isDone, whole.stderr);
    const statuses = { done: 0, failed: 0 };
    for (const direction of ['up', 'down'] as const) {
      const total = whole.moved[direction];
      for (const after of places(total, Math.max(2000, Math.ceil(total / 5)))) {
        for (const more of [[], ['--reconnect-delay=9']]) {
          const ended = await run({ direction, after }, ...more);
          const where = `${direction} after ${after} ${more.join('')}: ${ended.stderr}`;
          if (ended.status === 0) assert.ok(ended.isDone, where);
          else assert.match(ended.stderr, /^img: ./, where);
          statuses[ended.status === 0 ? 'done' : 'failed']++;
        }
      }
    }
    assert.ok(statuses.done > 0 && statuses.failed > 0, JSON.stringify(statuses));
  });
}

test('reading goes on after a loss if that is asked for, and says at which byte it failed if not', async () => {
  await using folder = await temporaryFolder();
  const bytes = content();
  const cut: Cut = { direction: 'down', after: size / 8 };
  await using server = await cutServer(folder, bytes, (index) => (index < 4 ? cut : undefined));
  const words = ['convert', '-m', '2', '-f', 'raw', server.uri, folder.file('out')];
  const failed = await img(...words);
  assert.equal(failed.status, 1);
  assert.match(
    failed.stderr,
    /^img: error while (reading at byte|writing at byte|reading block status at offset) \d+: /,
  );
  await using again = await temporaryFolder();
  await using second = await cutServer(again, bytes, (index) => (index < 4 ? cut : undefined));
  const ended = await img('convert', `--reconnect-delay=20`, '-f', 'raw', second.uri, folder.file('out'));
  assert.deepEqual(ended, { status: 0, stdout: '', stderr: '' });
  assert.ok(readFileSync(folder.file('out')).equals(bytes));
  assert.ok(second.proxy.connections > 1);
});

test(
  'CVE-2022-0485: one failed read of many ends a copy with a status that says so',
  requires('nbdkit'),
  async () => {
    await using folder = await temporaryFolder();
    const args = ['--filter=error', 'pattern', '64M', 'error-pread=EIO', 'error-pread-rate=10%'];
    await using _ = await nbdkit(folder.file('s'), args);
    const { status, stdout, stderr } = await img(
      'convert',
      '-f',
      'raw',
      `nbd+unix:///?socket=${folder.file('s')}`,
      folder.file('out'),
    );
    assert.deepEqual([status, stdout], [1, '']);
    assert.match(stderr, /^img: error while reading at byte \d+: Input\/output error/);
  },
);
