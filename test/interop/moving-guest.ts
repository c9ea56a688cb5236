/**
 * A guest that never stops: fio writes most of the disk, and beside it one writer, one write at a time, leaves a trace in
 * the first blocks from which a state of the disk can be told to be of one moment.
 */
import assert from 'node:assert/strict';
import { openFile } from '@strata/block';
import { openNbd } from '@strata/nbd';
import { type Server, serve } from '@strata/testkit';

const blockLength = 4096;
const blocks = 64;
/** Where fio begins. */
const traceLength = blocks * blockLength;

/** How far the writer was: what it had been answered, and what it had asked for. */
export interface Moment {
  readonly answered: number;
  readonly asked: number;
}

/** A guest that writes until it is disposed of. */
export interface MovingGuest extends AsyncDisposable {
  moment(): Moment;
  /** Waits for so many more writes, which there are while the server serves. */
  goOn(writes: number): Promise<void>;
}

/** The block that write number `count` goes to: all of them in turn, in no simple order. */
const blockOf = (count: number): number => (count * 37) % blocks;

/** Starts to write. @param size bytes of the export */
export async function movingGuest(uri: string, size: number): Promise<MovingGuest> {
  const connection = await openNbd(uri);
  const device = connection.device ?? assert.fail('the export is read-only');
  const fio = await startFio(uri, size);
  let [answered, asked, stopped] = [0, 0, false];
  const write = async (): Promise<void> => {
    while (!stopped) {
      asked++;
      const block = Buffer.alloc(blockLength);
      for (let at = 0; at < blockLength; at += 4) block.writeUInt32LE(asked, at);
      await device.write(block, blockOf(asked) * blockLength);
      answered = asked;
    }
  };
  const writing = write();
  writing.catch(() => undefined);
  return {
    moment: () => ({ answered, asked }),
    goOn: async (writes) => {
      const wanted = answered + writes;
      while (answered < wanted)
        await Promise.race([writing, new Promise((resolve) => setImmediate(resolve))]);
    },
    [Symbol.asyncDispose]: async () => {
      stopped = true;
      await writing;
      await fio.stop();
      await connection[Symbol.asyncDispose]();
    },
  };
}

function startFio(uri: string, size: number): Promise<Server> {
  const where = [`--uri=${uri}`, `--offset=${traceLength}`, `--size=${size - traceLength}`];
  const what = ['--rw=randwrite', '--bsrange=512-64k', '--iodepth=4', '--rate_iops=400', '--norandommap'];
  const how = ['--name=guest', '--ioengine=nbd', '--time_based', '--runtime=3600', '--output=/dev/null'];
  return serve('fio', [...how, ...where, ...what], () => true);
}

/**
 * Asserts that the image at `path`, a raw one, is the guest's disk as it was at one moment between two.
 * The blocks must be those that the first `count` writes left, for some count that the guest had reached.
 */
export async function assertOneMoment(path: string, from: Moment, to: Moment): Promise<void> {
  await using file = await openFile(path, { access: 'read' });
  const bytes = Buffer.alloc(traceLength);
  await file.read(bytes, 0);
  const found = Array.from({ length: blocks }, (_, index) => {
    const block = bytes.subarray(index * blockLength, (index + 1) * blockLength);
    const count = block.readUInt32LE(0);
    for (let at = 0; at < blockLength; at += 4)
      assert.equal(block.readUInt32LE(at), count, `block ${index} is torn`);
    return count;
  });
  const last = Math.max(...found);
  assert.ok(last >= from.answered && last <= to.asked, `${last} is not from ${from.answered} to ${to.asked}`);
  const expected = Array.from({ length: blocks }, () => 0);
  for (let count = Math.max(1, last - 2 * blocks); count <= last; count++) expected[blockOf(count)] = count;
  assert.deepEqual(found, expected);
}
