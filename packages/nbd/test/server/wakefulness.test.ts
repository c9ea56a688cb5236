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

test('after traffic the loop takes turns for 50 microseconds, and then sleeps', () => {
  const loop = new FakeLoop();
  const wakefulness = new Wakefulness(loop);
  wakefulness.served(1, 0);
  assert.equal(loop.turns(100), 4);
  wakefulness.served(8, 0);
  assert.equal(loop.turns(100), 4);
});

test('traffic in time keeps it awake', () => {
  const loop = new FakeLoop();
  const wakefulness = new Wakefulness(loop);
  for (let batch = 0; batch < 1000; batch++) {
    wakefulness.served(1, 0);
    assert.equal(loop.turns(3), 3);
  }
  assert.equal(loop.turns(100), 1);
});

test('many requests at a time, or some under way, do not keep it awake', () => {
  const loop = new FakeLoop();
  const wakefulness = new Wakefulness(loop);
  wakefulness.served(9, 0);
  wakefulness.served(1, 1);
  assert.equal(loop.turns(100), 0);
});

test('when it is in vain again and again, only every 64th batch is tried, until that pays', () => {
  const loop = new FakeLoop();
  const wakefulness = new Wakefulness(loop);
  const tried = (batches: number): number => {
    let count = 0;
    for (let batch = 0; batch < batches; batch++) {
      wakefulness.served(1, 0);
      if (loop.turns(100) > 0) count++;
    }
    return count;
  };
  assert.equal(tried(8), 8);
  assert.equal(tried(640), 10);
  // The next attempt succeeds: the client is quick now.
  while (loop.turns(1) === 0) wakefulness.served(1, 0);
  for (let batch = 0; batch < 20; batch++) {
    wakefulness.served(1, 0);
    loop.turns(2);
  }
  loop.turns(100);
  assert.equal(tried(5), 5);
});
