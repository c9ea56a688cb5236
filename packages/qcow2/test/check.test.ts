import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { test } from 'node:test';
import { requires, temporaryFolder } from '@strata/testkit';
import { assertAgree } from './check-verdict.ts';
import { damage, makeSubjects, targetsOf } from './damaged-images.ts';
import { seeded } from './random.ts';

test(
  'a sound image is sound, and its clusters are counted as qemu-img counts them',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    for (const [name, path] of await makeSubjects(folder)) {
      const { status } = await assertAgree(path, name);
      assert.equal(status, 0, name);
    }
  },
);

test(
  'a damaged image gets the verdict, the counts and the lines of qemu-img',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const seen = new Map<string, number>();
    for (const [name, path] of await makeSubjects(folder)) {
      const targets = await targetsOf(path);
      for (let seed = 1; seed <= 40; seed++) {
        const victim = folder.file('victim.qcow2');
        await copyFile(path, victim);
        const told = await damage(victim, targets, seeded(seed));
        const { status } = await assertAgree(victim, `${name}, seed ${seed}: ${told}`);
        seen.set(`${status}`, (seen.get(`${status}`) ?? 0) + 1);
      }
    }
    assert.ok(seen.size === 4, `verdicts: ${JSON.stringify([...seen])}`);
  },
);
