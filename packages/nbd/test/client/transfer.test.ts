import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import fc from 'fast-check';
import { Transfer } from '../../src/client/transfer.ts';
import type { BlockSizes } from '../../src/protocol/options.ts';
import { chunk, fakeSession, simple, usual } from './fake-transport.ts';
import { be } from './script.ts';

const size = 1 << 20;

interface Rules extends BlockSizes {
  /** The longest range that a request without payload may have; longer ones get EINVAL. */
  readonly longest?: number;
  /** Offsets of requests that get EIO. */
  readonly broken?: readonly number[];
  readonly flags?: number;
}

/** A server over `disk` that holds the client to its rules, and what it was asked. */
function server(disk: Buffer, rules: Rules): { transfer: Transfer; requests: string[] } {
  const { transport, session } = fakeSession({ style: 'structured' });
  const requests: string[] = [];
  const answer = (batch: Buffer): void => {
    for (let at = 0; at < batch.length; ) {
      const [flags, command] = [batch.readUInt16BE(at + 4), batch.readUInt16BE(at + 6)];
      const cookie = batch.toString('hex', at + 8, at + 16);
      const [offset, length] = [Number(batch.readBigUInt64BE(at + 16)), batch.readUInt32BE(at + 24)];
      at += 28;
      requests.push(`${command} ${offset}+${length}${flags === 0 ? '' : ` ${flags}`}`);
      assert.equal(offset % rules.minimum, 0, 'requests start at a block');
      assert.equal(length % rules.minimum, 0, 'requests are whole blocks');
      assert.ok(command > 1 || length <= rules.maximumPayload, 'payloads are as long as the server takes');
      const payload = batch.subarray(at, command === 1 ? at + length : at);
      at += payload.length;
      if (rules.broken?.includes(offset)) transport.feed(simpleOrChunk(command, cookie, 5));
      else if (command > 3 && length > (rules.longest ?? size)) transport.feed(simple(cookie, 22));
      else if (command === 0) {
        transport.feed(chunk(cookie, 1, 1, be(offset, 8) + disk.toString('hex', offset, offset + length)));
      } else {
        if (command === 1) payload.copy(disk, offset);
        if (command === 6) disk.fill(0, offset, offset + length);
        if (command === 4) disk.fill(0xdd, offset, offset + length);
        transport.feed(simple(cookie));
      }
    }
  };
  const send = transport.send.bind(transport);
  transport.send = (chunks, sent) => {
    send(chunks, sent);
    setImmediate(answer, transport.batches.at(-1) as Buffer);
  };
  const { longest: _longest, broken: _broken, flags = 0x0ded, ...blockSizes } = rules;
  return { transfer: new Transfer({ next: () => session }, { ...usual, blockSizes, flags }), requests };
}

const simpleOrChunk = (command: number, cookie: string, error: number): Buffer =>
  command === 0 ? chunk(cookie, 1, 0x8001, `${be(error, 4)}0000`) : simple(cookie, error);

const rules = fc
  .tuple(fc.constantFrom(1, 512, 4096, 65536), fc.constantFrom(1, 2, 16))
  .map(([minimum, blocks]) => ({
    minimum,
    preferred: minimum,
    maximumPayload: Math.max(minimum * blocks, 1024),
  }));
const range = fc
  .tuple(fc.nat(size - 1), fc.integer({ min: 1, max: 200_000 }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, size - offset) }));
const operation = fc.tuple(fc.constantFrom('read', 'write', 'zero', 'writeZeros', 'trim'), range);

test('any ranges under any block sizes have the effect they name', async () => {
  const property = fc.asyncProperty(
    rules,
    fc.array(operation, { maxLength: 8 }),
    async (sizes, operations) => {
      const disk = Buffer.alloc(size, 0x5a);
      const oracle = Buffer.from(disk);
      const { transfer } = server(disk, sizes);
      for (const [index, [kind, { offset, length }]] of operations.entries()) {
        const end = offset + length;
        if (kind === 'read') {
          const into = Buffer.alloc(length);
          await transfer.read(into, offset);
          assert.ok(into.equals(oracle.subarray(offset, end)));
        } else if (kind === 'write') {
          await transfer.write(Buffer.alloc(length, index + 1), offset);
          oracle.fill(index + 1, offset, end);
        } else if (kind === 'trim') {
          await transfer.trim(offset, length);
          const [start, stop] = [transfer.ceiling(offset), transfer.floor(end)];
          if (stop > start) oracle.fill(0xdd, start, stop);
        } else {
          if (kind === 'zero') await transfer.zero(offset, length, 0);
          else await transfer.writeZeros(offset, length);
          oracle.fill(0, offset, end);
        }
        assert.ok(disk.equals(oracle), `${kind} ${offset}+${length}`);
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

const small = { minimum: 512, preferred: 512, maximumPayload: 4096 };

test('an aligned range that fits is one request, and a long one is as few as the payload allows', async () => {
  const { transfer, requests } = server(Buffer.alloc(size), small);
  await transfer.read(Buffer.alloc(4096), 512);
  await transfer.write(Buffer.alloc(9000), 1024);
  assert.deepEqual(requests, [
    '0 512+4096',
    '1 1024+4096',
    '1 5120+4096',
    '1 9216+512',
    '0 9728+512',
    '1 9728+512',
  ]);
});

test('zeros and trims go in one request, and in smaller ones once the server found one too long', async () => {
  const { transfer, requests } = server(Buffer.alloc(size), { ...small, longest: 8192 });
  await transfer.zero(0, 4096, 0);
  await transfer.zero(0, 12288, 2 + 16);
  await transfer.trim(0, 8192);
  assert.deepEqual(requests, [
    '6 0+4096',
    '6 0+12288 18',
    '6 0+4096 18',
    '6 4096+4096 2',
    '6 8192+4096 2',
    '4 0+4096',
    '4 4096+4096',
  ]);
});

test('a refusal that has nothing to do with the length is passed on', async () => {
  const { transfer, requests } = server(Buffer.alloc(size), { ...small, broken: [0] });
  await assert.rejects(transfer.zero(0, 65536, 0), (error) => isDiskError(error, 'io'));
  assert.deepEqual(requests, ['6 0+65536']);
});

test('a request in pieces settles when all pieces have, and fails if one did, with its offset', async () => {
  const disk = Buffer.alloc(size, 1);
  const { transfer, requests } = server(disk, { ...small, broken: [4096] });
  const into = Buffer.alloc(65536);
  await assert.rejects(
    transfer.read(into, 0),
    (error) => isDiskError(error, 'io') && error.context.offset === 4096,
  );
  assert.equal(requests.length, 16);
  assert.ok(into.subarray(61440).equals(Buffer.alloc(4096, 1)), 'the last piece had come');
  await assert.rejects(transfer.write(into, 0), (error) => isDiskError(error, 'io'));
});

test('a trim inside one block is no request', async () => {
  const { transfer, requests } = server(Buffer.alloc(size), small);
  await transfer.trim(1, 1000);
  assert.deepEqual(requests, []);
});

test('a flush is sent where it is offered, and elsewhere fails only when the connection is lost', async () => {
  const offered = server(Buffer.alloc(size), small);
  await offered.transfer.flush();
  assert.deepEqual(offered.requests, ['3 0+0']);
  const { transport, session } = fakeSession();
  const transfer = new Transfer({ next: () => session }, { ...usual, flags: 0x0001 });
  await transfer.flush();
  assert.deepEqual(transport.batches, []);
  transport.hangUp();
  await assert.rejects(transfer.flush(), (error) => isDiskError(error, 'closed'));
});
