import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Account, Budget } from '../../src/server/budget.ts';

test('an account draws on the budget only beyond its allowance', () => {
  const budget = new Budget(100);
  const account = new Account(budget, 50);
  const other = new Account(budget, 0);
  let woken = 0;
  const wake = (): void => {
    woken++;
  };
  assert.equal(account.tryTake(50, wake), true);
  assert.equal(account.owed, 0);
  assert.equal(account.tryTake(60, wake), true);
  assert.equal(account.owed, 60);
  assert.equal(other.tryTake(41, wake), false);
  assert.equal(budget.wanted, true);
  account.give(50);
  assert.equal(woken, 1);
  assert.equal(other.tryTake(41, wake), true);
  assert.equal(account.tryTake(10, wake), false === account.owed + 10 + 41 > 100);
});

test('what is more than the whole budget is given to who is alone', () => {
  const budget = new Budget(100);
  assert.equal(budget.tryTake(500), true);
  assert.equal(budget.tryTake(1), false);
  budget.give(500);
  assert.equal(budget.tryTake(1), true);
});
