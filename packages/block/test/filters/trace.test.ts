import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, faulty, MemoryDevice, type TraceEvent, traced } from '@strata/block';

test('every call is told of when it begins and when it ends, with what it writes', async () => {
  await using memory = new MemoryDevice(100);
  const told: string[] = [];
  const file = traced(memory, ({ index, phase, call, offset, length, bytes }) => {
    told.push(`${index} ${phase} ${call} ${offset}+${length}${bytes ? ` [${bytes}]` : ''}`);
  });
  await file.write(Uint8Array.of(1, 2), 5);
  await file.read(new Uint8Array(3), 4);
  await file.zero(0, 10);
  await file.discard(1, 2);
  await file.extentAt(3, 4);
  await file.flush();
  await file.truncate(50);
  assert.deepEqual(told, [
    '0 begin write 5+2 [1,2]',
    '0 end write 5+2',
    '1 begin read 4+3',
    '1 end read 4+3',
    '2 begin zero 0+10',
    '2 end zero 0+10',
    '3 begin discard 1+2',
    '3 end discard 1+2',
    '4 begin extent 3+4',
    '4 end extent 3+4',
    '5 begin flush 0+0',
    '5 end flush 0+0',
    '6 begin truncate 50+0',
    '6 end truncate 50+0',
  ]);
  assert.equal(file.size, 50);
});

test('a failure is told of and passed on', async () => {
  await using memory = new MemoryDevice(100);
  const events: TraceEvent[] = [];
  const fail = new DiskError('io', 'no');
  const file = traced(
    faulty(memory, () => ({ fail })),
    (event) => events.push(event),
  );
  await assert.rejects(file.flush(), fail);
  assert.equal(events[1]?.phase, 'error');
  assert.equal(events[1]?.error, fail);
});
