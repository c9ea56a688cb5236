import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { Admission, networkOf, type Places } from '../../src/server/admission.ts';

/** Clients that are named by their addresses, and what became of each. */
function reception(places: Partial<Places>) {
  const served: string[] = [];
  const refused: string[] = [];
  const leaving: (() => void)[] = [];
  const all = { all: 100, perAddress: 2, waiting: 4, waitingPerAddress: 2, ...places };
  const admission = new Admission(all, (socket, leave) => {
    served.push(String(socket.remoteAddress));
    leaving.push(leave);
  });
  const arrive = (...addresses: readonly (string | undefined)[]): void => {
    for (const remoteAddress of addresses) {
      const destroy = (): number => refused.push(String(remoteAddress));
      admission.arrived({ remoteAddress, destroy } as unknown as Socket);
    }
  };
  return { admission, served, refused, leaving, arrive };
}

test('clients of one address beyond its share wait, and others are served meanwhile', () => {
  const { served, refused, leaving, arrive, admission } = reception({});
  arrive('1.1.1.1', '1.1.1.1', '1.1.1.1', '2.2.2.2');
  assert.deepEqual(served, ['1.1.1.1', '1.1.1.1', '2.2.2.2']);
  assert.equal(admission.isCrowded, true);
  leaving[2]?.();
  assert.equal(served.length, 3, 'the place of another address does not help');
  leaving[0]?.();
  assert.deepEqual(served.slice(3), ['1.1.1.1']);
  assert.equal(admission.isCrowded, false);
  assert.deepEqual(refused, []);
});

test('one address fills no more than its share of the queue', () => {
  const { served, refused, arrive } = reception({ all: 1 });
  arrive('3.3.3.3', '1.1.1.1', '1.1.1.1', '1.1.1.1', '2.2.2.2');
  assert.deepEqual(served, ['3.3.3.3']);
  assert.deepEqual(refused, ['1.1.1.1']);
});

test('who waits is let in in turn, past those whose address has no place', () => {
  const { served, leaving, arrive } = reception({ all: 3 });
  arrive('1.1.1.1', '1.1.1.1', '2.2.2.2', '1.1.1.1', '3.3.3.3', '4.4.4.4');
  leaving[2]?.();
  leaving[0]?.();
  assert.deepEqual(served.slice(3), ['3.3.3.3', '1.1.1.1']);
});

test('clients on unix sockets share all places alike', () => {
  const { served, arrive } = reception({ all: 5 });
  arrive(undefined, undefined, undefined, undefined);
  assert.equal(served.length, 4);
});

test('closing cuts off who waits', () => {
  const { refused, arrive, admission } = reception({ all: 1 });
  arrive('1.1.1.1', '2.2.2.2', '3.3.3.3');
  admission.close();
  assert.deepEqual(refused, ['2.2.2.2', '3.3.3.3']);
  assert.equal(admission.isCrowded, false);
});

const networks: readonly (readonly [string, string])[] = [
  ['10.1.2.3', '10.1.2.3'],
  ['::ffff:10.1.2.3', '10.1.2.3'],
  ['2001:db8:0:7:1:2:3:4', '2001:db8:0:7'],
  ['2001:db8:0:7::9', '2001:db8:0:7'],
  ['2001:0db8::7:1:2:3:4', '2001:db8:0:7'],
  ['fe80::1%eth0', 'fe80:0:0:0'],
  ['::1', '0:0:0:0'],
];
for (const [address, network] of networks) {
  test(`${address} counts as ${network}`, () => assert.equal(networkOf(address), network));
}
