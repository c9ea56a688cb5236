/** zstd through each engine that this host has: they must not be told apart. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ZstdEngine, zstdCodec, zstdCodecOf } from '../../src/codec/zstd.ts';
import { libraryEngine } from '../../src/codec/zstd-library.ts';
import { nodeEngine } from '../../src/codec/zstd-node.ts';
import { wasmEngine } from '../../src/codec/zstd-wasm.ts';
import { encoded, frameOf as frameBy, noise, text } from './samples.ts';

const engines: readonly (readonly [string, ZstdEngine | undefined])[] = [
  ['libzstd', await libraryEngine()],
  ['node:zlib', nodeEngine()],
  ['WebAssembly', await wasmEngine()],
];
const present = engines.filter((row): row is readonly [string, ZstdEngine] => row[1] !== undefined);

const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

for (const [name, engine] of engines) {
  describe(`zstd by ${name}`, { skip: engine === undefined ? 'this host does not have it' : false }, () => {
    if (engine === undefined) return;
    const codec = zstdCodecOf(engine);
    const frameOf = (bytes: Uint8Array): Promise<Uint8Array> => frameBy(engine, bytes);
    const decode = async (stream: Uint8Array, length: number): Promise<Uint8Array> => {
      const into = new Uint8Array(length);
      await codec.decode(stream, into);
      return into;
    };
    const rejects = (stream: Uint8Array, length: number): Promise<void> =>
      assert.rejects(decode(stream, length), { code: 'corrupt' });

    test('every engine of this host decodes what it encodes, at every level', async () => {
      for (const length of [512, 4096, 65_536, 2 ** 21])
        for (const level of length === 65_536 ? [1, 2, 3, 9, 13, 19] : [undefined]) {
          const stream = await encoded(codec, text(length), level);
          assert.ok(stream !== undefined && stream.length < length, `${length} ${level}`);
          for (const [, other] of present) {
            const into = new Uint8Array(length);
            await zstdCodecOf(other).decode(stream, into);
            assert.deepEqual(into, text(length));
          }
        }
    });

    test('a higher level makes the stream shorter', async () => {
      const [low, high] = [await encoded(codec, text(65_536), 1), await encoded(codec, text(65_536), 19)];
      assert.ok(low !== undefined && high !== undefined && high.length < low.length);
    });

    test('the same bytes make the same stream, also side by side', async () => {
      const inputs = Array.from({ length: 24 }, (_, i) => text(65_536, i % 3));
      const streams = await Promise.all(inputs.map((bytes) => encoded(codec, bytes)));
      for (const [i, stream] of streams.entries()) assert.deepEqual(stream, streams[i % 3]);
    });

    test('what would not become shorter is not encoded', async () => {
      for (const length of [512, 65_536]) assert.equal(await encoded(codec, noise(length)), undefined);
    });

    test('what follows the frame is somebody else’s', async () => {
      const stream = join(await frameOf(text(65_536)), noise(700));
      assert.deepEqual(await decode(stream, 65_536), text(65_536));
    });

    test('several frames may hold one cluster together, and skippable ones between them nothing', async () => {
      const skippable = Uint8Array.from(Buffer.from('502a4d1803000000aabbcc', 'hex'));
      const parts = [text(20_000, 1), text(30_000, 2), text(15_536, 3)] as const;
      const [a, b, c] = [await frameOf(parts[0]), await frameOf(parts[1]), await frameOf(parts[2])];
      assert.deepEqual(await decode(join(skippable, a, b, skippable, c), 65_536), join(...parts));
    });

    test('a frame that holds more than is left of the cluster is refused', async () => {
      await rejects(await frameOf(text(65_537)), 65_536);
      await rejects(join(await frameOf(text(40_000)), await frameOf(text(40_000))), 65_536);
      const bomb = await frameOf(new Uint8Array(64 * 2 ** 20));
      assert.ok(bomb.length < 16_384);
      const before = process.memoryUsage().rss;
      await rejects(bomb, 65_536);
      assert.ok(process.memoryUsage().rss - before < 32 * 2 ** 20);
    });

    test('a frame that does not say how much it holds is refused when it holds more', async () => {
      // A window of 128 KiB, no size, and run-length blocks of 128 KiB each: two, the second of which is the last.
      const head = '28b52ffd0038';
      const [block, last] = ['02001061', '03001062'];
      const two = Uint8Array.from(Buffer.from(head + block + last, 'hex'));
      assert.deepEqual(
        (await decode(two, 262_144)).subarray(131_070, 131_074),
        Uint8Array.from([97, 97, 98, 98]),
      );
      await rejects(two, 131_072);
      await rejects(Uint8Array.from(Buffer.from(head + block.repeat(4000) + last, 'hex')), 65_536);
    });

    test('what holds less than the cluster, is cut off or damaged is refused', async () => {
      const whole = await frameOf(text(65_536));
      await rejects(await frameOf(text(65_535)), 65_536);
      await rejects(whole.subarray(0, whole.length - 1), 65_536);
      await rejects(new Uint8Array(0), 65_536);
      await rejects(new Uint8Array(512), 65_536);
      await rejects(noise(512), 65_536);
      const damaged = whole.slice();
      damaged.fill(0xff, 20, 40);
      await rejects(damaged, 65_536);
      assert.deepEqual(await decode(whole, 65_536), text(65_536), 'and the engine still works');
    });

    test('a run of frames is decoded only if each holds as much as a cluster', async () => {
      const parts = [1, 2, 3].map((seed) => text(65_536, seed));
      const [a, b, c] = (await Promise.all(parts.map(frameOf))) as [Uint8Array, Uint8Array, Uint8Array];
      const all = join(a, b, c);
      const apart = [join(a, noise(300)), join(b, noise(9)), c];
      const adjacent = [all, all.subarray(a.length), all.subarray(a.length + b.length)];
      for (const streams of [apart, adjacent]) {
        const into = new Uint8Array(3 * 65_536);
        assert.equal(await codec.decodeRun(streams, into), engine.takesRuns === true);
        if (engine.takesRuns === true) assert.deepEqual(into, join(...parts));
      }
      const into = new Uint8Array(3 * 65_536);
      const damaged = b.slice();
      damaged.fill(0xff, 20, 40);
      const odd = [
        await frameOf(text(65_535)),
        await frameOf(text(65_537)),
        damaged,
        b.subarray(0, -1),
        noise(512),
      ];
      for (const stream of odd) assert.equal(await codec.decodeRun([a, stream, c], into), false);
      const [short, long] = odd as [Uint8Array, Uint8Array];
      assert.equal(await codec.decodeRun([short, long], into.subarray(0, 131_072)), false);
    });

    test('a declared size that is not the real one is refused', async () => {
      // The raw block of three bytes in a frame that says it holds four.
      await rejects(Uint8Array.from(Buffer.from('28b52ffd2004190000616263', 'hex')), 4);
    });
  });
}

test('the codec is that of an engine of this host', async () => {
  const codec = await zstdCodec();
  const stream = await encoded(codec, text(4096), 3);
  assert.ok(stream);
  const into = new Uint8Array(4096);
  await codec.decode(stream, into);
  assert.deepEqual(into, text(4096));
});
