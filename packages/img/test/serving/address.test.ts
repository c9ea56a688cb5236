import assert from 'node:assert/strict';
import { test } from 'node:test';
import { activatedSockets, refuseExposure } from '../../src/serving/address.ts';

test('sockets are taken over only by the process that they are meant for', () => {
  assert.equal(activatedSockets({ LISTEN_FDS: '1', LISTEN_PID: '77' }, 77), 1);
  assert.equal(activatedSockets({ LISTEN_FDS: '2', LISTEN_PID: '77' }, 77), 2);
  for (const env of [
    {},
    { LISTEN_FDS: '1' },
    { LISTEN_FDS: '1', LISTEN_PID: '78' },
    { LISTEN_FDS: '0', LISTEN_PID: '77' },
    { LISTEN_FDS: '-1', LISTEN_PID: '77' },
    { LISTEN_FDS: 'x', LISTEN_PID: '77' },
  ]) {
    assert.equal(activatedSockets(env, 77), 0, JSON.stringify(env));
  }
});

test('an address that other machines reach is refused', () => {
  for (const host of ['127.0.0.1', '127.8.8.8', '::1', 'localhost']) refuseExposure(host, 'Without TLS');
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example', 'example', '1270.0.0.1', '']) {
    assert.throws(() => refuseExposure(host, 'Without TLS'), /--insecure/, host);
  }
});
