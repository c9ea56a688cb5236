/** Raw deflate with and without libdeflate: they must not be told apart. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import { deflateCodec, deflateCodecOf } from '../../src/codec/deflate.ts';
import { libraryInflate } from '../../src/codec/deflate-library.ts';
import { encoded, noise, text } from './samples.ts';

const library = await libraryInflate();
const codecs = [
  ['node:zlib', deflateCodecOf(undefined), false],
  ['libdeflate', deflateCodecOf(library), library === undefined],
] as const;

for (const [name, codec, isMissing] of codecs) {
  describe(`deflate by ${name}`, { skip: isMissing ? 'this host does not have it' : false }, () => {
    const decode = async (stream: Uint8Array, length: number): Promise<Uint8Array> => {
      const into = new Uint8Array(length);
      await codec.decode(stream, into);
      return into;
    };

    test('decoding returns what a stream holds, of small and of large windows', async () => {
      for (const length of [512, 4096, 65_536])
        for (const windowBits of [9, 12, 15])
          assert.deepEqual(await decode(deflateRawSync(text(length), { windowBits }), length), text(length));
    });

    test('decoding takes the start of a stream that holds more, by little or by much', async () => {
      for (const more of [1, 64, 65, 100_000])
        for (const length of [4096, 65_536]) {
          const bytes = text(length + more);
          assert.deepEqual(
            await decode(deflateRawSync(bytes), length),
            bytes.subarray(0, length),
            `${length}+${more}`,
          );
        }
    });

    test('decoding never makes more than it was asked for of a stream that holds 64 MiB', async () => {
      const bomb = deflateRawSync(new Uint8Array(64 * 2 ** 20));
      assert.ok(bomb.length < 70_000);
      for (const length of [512, 65_536]) {
        const before = process.memoryUsage().arrayBuffers;
        await decode(bomb, length);
        assert.ok(process.memoryUsage().arrayBuffers - before < 16 * 2 ** 20);
      }
    });

    test('decoding refuses a stream that holds less', async () => {
      for (const length of [4096, 65_536])
        await assert.rejects(decode(deflateRawSync(text(length - 1)), length), {
          code: 'corrupt',
          message: `a compressed cluster holds ${length - 1} bytes instead of ${length}`,
        });
    });

    test('decoding ignores what follows the stream', async () => {
      for (const length of [4096, 65_536]) {
        const stream = deflateRawSync(text(length));
        const padded = new Uint8Array(stream.length + 700).fill(0xa5);
        padded.set(stream);
        assert.deepEqual(await decode(padded, length), text(length));
      }
    });

    test('decoding takes a stream that is cut after the last byte it was asked for', async () => {
      // Stored blocks: 5 bytes of header each, so the cut leaves the bytes whole and the stream without end.
      const stream = deflateRawSync(text(8192), { level: 0 });
      assert.deepEqual(await decode(stream.subarray(0, 5 + 4096), 4096), text(8192).subarray(0, 4096));
    });

    test('decoding refuses what is no stream', async () => {
      for (const length of [4096, 65_536]) {
        await assert.rejects(decode(new Uint8Array(512).fill(0xff), length), { code: 'corrupt' });
        await assert.rejects(decode(new Uint8Array(512), length), { code: 'corrupt' });
      }
    });

    test('encoding makes a stream with QEMU’s window that holds the cluster, at every level', async () => {
      for (const length of [512, 4096, 65_536, 2 ** 21])
        for (const level of length === 65_536 ? [1, 5, 9] : [undefined]) {
          const stream = await encoded(codec, text(length), level);
          assert.ok(stream !== undefined && stream.length < length);
          assert.deepEqual(Uint8Array.from(inflateRawSync(stream, { windowBits: 12 })), text(length));
        }
      // Matches at a distance of 5000 bytes must not be used.
      const repeated = Buffer.concat(Array.from({ length: 13 }, () => noise(5000, 1)));
      assert.equal(await encoded(codec, repeated), undefined);
      assert.ok(deflateRawSync(repeated, { finishFlush: constants.Z_FINISH }).length < 10_000);
    });

    test('encoding the same bytes makes the same stream, and a higher level a shorter one', async () => {
      const streams = await Promise.all([1, 2, 3].map(() => encoded(codec, text(65_536))));
      assert.deepEqual(streams[1], streams[0]);
      assert.deepEqual(streams[2], streams[0]);
      const [fast, best] = [await encoded(codec, text(65_536), 1), await encoded(codec, text(65_536), 9)];
      assert.ok(fast !== undefined && best !== undefined && best.length < fast.length);
    });

    test('encoding gives up where the stream would not be shorter', async () => {
      for (const length of [512, 4096, 65_536]) assert.equal(await encoded(codec, noise(length)), undefined);
    });

    test('a run of streams is decoded as each is by itself', async () => {
      const parts = [1, 2, 3].map((seed) => text(4096, seed));
      const streams = parts.map((bytes) => deflateRawSync(bytes));
      const into = new Uint8Array(3 * 4096);
      assert.equal(await codec.decodeRun(streams, into), true);
      assert.deepEqual(into, Uint8Array.from(Buffer.concat(parts)));
      streams[1] = deflateRawSync(text(4095));
      assert.equal(await codec.decodeRun(streams, into), false);
    });
  });
}

test('the codec is one that this host has', async () => {
  const stream = deflateRawSync(text(65_536));
  const into = new Uint8Array(65_536);
  await (await deflateCodec()).decode(stream, into);
  assert.deepEqual(into, text(65_536));
});
