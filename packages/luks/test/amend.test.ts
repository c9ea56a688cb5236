/** Changes of key slots; the sentences are those of qemu-img 7.2. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changeKeys, type KeyChange } from '../src/amend.ts';
import { readLuksInfo } from '../src/info.ts';
import { openLuks } from '../src/key-slots.ts';
import { newDisk, PASSPHRASE } from './new-disk.ts';

const SECOND = Buffer.from('second');
const add = (change: Partial<Extract<KeyChange, { state: 'active' }>> = {}): KeyChange => ({
  state: 'active',
  passphrase: PASSPHRASE,
  newPassphrase: SECOND,
  iterTime: 1,
  ...change,
});
const erase = (change: Omit<Extract<KeyChange, { state: 'inactive' }>, 'state'>): KeyChange => ({
  state: 'inactive',
  ...change,
});

const active = async (area: Parameters<typeof readLuksInfo>[0]): Promise<readonly number[]> =>
  (await readLuksInfo(area)).slots.flatMap((slot, index) => (slot.active ? [index] : []));

test('a passphrase is added to the first free slot or to the one named, and opens the same disk', async () => {
  const memory = await newDisk(512);
  await changeKeys(memory, add());
  await changeKeys(memory, add({ slot: 6, newPassphrase: Buffer.from('third') }));
  assert.deepEqual(await active(memory), [0, 1, 6]);
  const clear = new Uint8Array(512);
  const ciphers = await Promise.all(
    [PASSPHRASE, SECOND, Buffer.from('third')].map((words) => openLuks(memory, words)),
  );
  const seen = ciphers.map(({ cipher }) => {
    const into = new Uint8Array(512);
    cipher.encrypt(clear, into, 3);
    return into;
  });
  assert.deepEqual(seen[1], seen[0]);
  assert.deepEqual(seen[2], seen[0]);
});

test('a slot is erased by its number or by its passphrase, and its key material is gone', async () => {
  const memory = await newDisk(512);
  await changeKeys(memory, add());
  const { slots } = await readLuksInfo(memory);
  const at = slots[1]?.keyOffset ?? 0;
  const before = memory.bytes().slice(at, at + 256_000);
  await changeKeys(memory, erase({ oldPassphrase: SECOND }));
  assert.deepEqual(await active(memory), [0]);
  const after = memory.bytes().slice(at, at + 256_000);
  for (let sector = 0; sector < 500; sector++) {
    const part = (bytes: Uint8Array) => bytes.subarray(sector * 512, sector * 512 + 512);
    assert.notDeepEqual(part(after), part(before), `sector ${sector}`);
  }
  await assert.rejects(openLuks(memory, SECOND), { code: 'denied' });
  await changeKeys(memory, add());
  await changeKeys(memory, erase({ slot: 0 }));
  assert.deepEqual(await active(memory), [1]);
  await openLuks(memory, SECOND);
});

const refusals: readonly (readonly [what: string, change: KeyChange, message: string])[] = [
  [
    'a slot that is in use',
    add({ slot: 0 }),
    'Refusing to overwrite active keyslot 0 - please erase it first',
  ],
  ['a slot past the last', add({ slot: 8 }), 'Invalid keyslot 8 specified, must be between 0 and 7'],
  ['a slot before the first', erase({ slot: -1 }), 'Invalid keyslot -1 specified, must be between 0 and 7'],
  [
    'adding with a wrong passphrase',
    add({ passphrase: SECOND }),
    'Invalid password, cannot unlock any keyslot',
  ],
  ['erasing an empty slot', erase({ slot: 3 }), 'Given keyslot 3 is already erased (inactive) '],
  [
    'erasing the last slot',
    erase({ slot: 0 }),
    'Attempt to erase the only active keyslot 0 which will erase all the data in the image irreversibly - refusing operation',
  ],
  [
    'erasing every slot that a passphrase opens',
    erase({ oldPassphrase: PASSPHRASE }),
    'All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation',
  ],
  [
    'erasing by a passphrase that opens none',
    erase({ oldPassphrase: SECOND }),
    'No keyslots match given (old) password for erase operation',
  ],
  [
    'erasing a slot by a passphrase that is not its',
    erase({ slot: 0, oldPassphrase: SECOND }),
    "Given keyslot 0 doesn't contain the given old password for erase operation",
  ],
  [
    'erasing nothing in particular',
    erase({}),
    'To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given',
  ],
];

for (const [what, change, message] of refusals) {
  test(`${what} is refused and changes nothing`, async () => {
    const memory = await newDisk(512);
    const before = memory.bytes().slice();
    await assert.rejects(changeKeys(memory, change), { message });
    assert.deepEqual(memory.bytes(), before);
  });
}

test('force overwrites a slot in use, and erases the last one', async () => {
  const memory = await newDisk(512);
  await changeKeys(memory, add({ slot: 0, force: true }));
  await openLuks(memory, SECOND);
  await assert.rejects(openLuks(memory, PASSPHRASE), { code: 'denied' });
  await changeKeys(memory, erase({ slot: 0, force: true }));
  assert.deepEqual(await active(memory), []);
});

test('eight passphrases fit, and no ninth', async () => {
  const memory = await newDisk(512, { cipherMode: 'cbc', cipherAlg: 'aes-128' });
  for (let index = 1; index < 8; index++)
    await changeKeys(memory, add({ newPassphrase: Buffer.from(`number ${index}`) }));
  await assert.rejects(changeKeys(memory, add()), {
    message: "Can't add a keyslot - all keyslots are in use",
  });
  await openLuks(memory, Buffer.from('number 7'));
});
