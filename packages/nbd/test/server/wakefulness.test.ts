import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Wakefulness } from '../../src/server/wakefulness.ts';

/** A loop whose time a test moves. */
class FakeLoop {
  time = 0;
  #waiting: (() => void)[] = [];

  now(): number {
    return this.time;
  }

  nextTurn(callback: () => void): void {
    this.#waiting.push(callback);
  }

  /** Takes turns of 1/64 ms while there is something to do, and counts them. */
  turns(most: number): number {
    for (let count = 0; count < most; count++) {
      if (this.#waiting.length === 0) return count;
      this.time += 1 / 64;
      for (const callback of this.#waiting.splice(0)) callback();
    }
    return most;
  }
}

/** A client that sends one request after the other, and how long each takes while the loop sleeps or not. */
class FakeClient {
  readonly loop = new FakeLoop();
  readonly wakefulness = new Wakefulness(this.loop);

  /** Sends requests, and counts those that found the loop awake. */
  send(requests: number, asleepMs: number, awakeMs: number): number {
    let awake = 0;
    for (let count = 0; count < requests; count++) {
      this.wakefulness.served(1, 0);
      const looks = this.loop.turns(1) > 0;
      if (looks) awake++;
      this.loop.time += looks ? awakeMs - 1 / 64 : asleepMs;
    }
    return awake;
  }
}

test('where staying awake is faster, nearly all requests find the loop awake', () => {
  const client = new FakeClient();
  client.send(200, 0.1, 0.04);
  const awake = client.send(64 * 160, 0.1, 0.04);
  assert.ok(awake > 64 * 145 && awake < 64 * 155, `${awake} of ${64 * 160}`);
});

for (const [claim, asleepMs, awakeMs] of [
  ['slower', 0.05, 0.08],
  ['no faster', 0.05, 0.05],
  ['hardly faster', 0.05, 0.047],
] as const) {
  test(`where it is ${claim}, the loop sleeps but for a trial now and then`, () => {
    const client = new FakeClient();
    client.send(200, asleepMs, awakeMs);
    const awake = client.send(64 * 160, asleepMs, awakeMs);
    assert.ok(awake > 64 * 5 && awake < 64 * 15, `${awake} of ${64 * 160}`);
  });
}

test('it follows when the machine becomes busy and idle again', () => {
  const client = new FakeClient();
  client.send(2000, 0.1, 0.04);
  client.send(20_000, 0.1, 0.3);
  assert.ok(client.send(6400, 0.1, 0.3) < 1000);
  client.send(20_000, 0.1, 0.04);
  assert.ok(client.send(6400, 0.1, 0.04) > 5400);
});

test('a client who pauses longer than a millisecond finds the loop asleep', () => {
  const client = new FakeClient();
  client.send(2000, 0.1, 0.04);
  client.send(2, 2, 2);
  assert.equal(client.send(500, 2, 2), 0);
});

test('the loop looks for 50 microseconds after the last request, and then sleeps', () => {
  const client = new FakeClient();
  while (client.send(1, 0.1, 0.04) === 0) {}
  client.wakefulness.served(1, 0);
  assert.equal(client.loop.turns(100), 4);
});

test('many requests at a time neither keep it awake nor count', () => {
  const client = new FakeClient();
  while (client.send(1, 0.1, 0.04) === 0) {}
  client.loop.turns(100);
  client.wakefulness.served(9, 0);
  client.wakefulness.served(1, 8);
  assert.equal(client.loop.turns(100), 0);
});
