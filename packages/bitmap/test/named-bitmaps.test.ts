/** Named bitmaps in memory, over a keeper that writes down what it is asked to keep. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import { DirtyBitmap, mostMemory } from '../src/bitmap.ts';
import { type BitmapKeeper, keptBitmap, type NamedBitmap, NamedBitmaps } from '../src/named-bitmaps.ts';

const KiB = 1024;
const size = 1024 * KiB;
const granularity = 4 * KiB;

type Row = NamedBitmap<string>;

/** What a keeper was asked for, and what it holds. */
class Notebook implements BitmapKeeper<string> {
  readonly room = { left: mostMemory };
  readonly storesAnySize = false;
  readonly defaultGranularity = granularity;
  readonly calls: string[] = [];
  failing = false;
  readonly #found: readonly Row[];

  constructor(found: readonly Row[] = []) {
    this.#found = found;
  }

  size = (): number => size;
  exclusively = (change: () => Promise<void>): Promise<void> => change();
  appeared = (): void => void this.calls.push('appeared');
  read = async (): Promise<readonly Row[]> => this.#found;
  load = async (row: Row): Promise<DirtyBitmap> => new DirtyBitmap(size, row.granularity);
  judge = (): void => undefined;
  markInUse = async (rows: readonly Row[]): Promise<void> => this.#note('in use', rows);
  add = async (_: Row, rows: readonly Row[]): Promise<void> => this.#note('add', rows);
  remove = async (_: Row, rows: readonly Row[]): Promise<void> => this.#note('remove', rows);
  rename = async (rows: readonly Row[]): Promise<void> => this.#note('rename', rows);
  store = async (rows: readonly Row[]): Promise<void> => this.#note('store', rows);

  #note(what: string, rows: readonly Row[]): void {
    if (this.failing) throw new Error('the disk is gone');
    this.calls.push(`${what}: ${rows.map(({ name }) => name).join(' ')}`);
  }
}

const facts = (name: string, inconsistent = false) => ({ name, granularity, enabled: true, inconsistent });
const rangesOf = async (bitmaps: NamedBitmaps<string>, name: string) => [
  ...(await bitmaps.load(name)).ranges(),
];
const refused = (call: Promise<unknown>, code: ErrorCode, words: RegExp) =>
  assert.rejects(call, (error: Error) => isDiskError(error, code) && words.test(error.message));

test('what is transient records and is kept by nobody', async () => {
  const keeper = new Notebook();
  const bitmaps = new NamedBitmaps(keeper);
  await bitmaps.add('memory', { granularity, persistent: false });
  await bitmaps.add('kept', { granularity });
  bitmaps.mark(8 * KiB, 1);
  await bitmaps.rename('memory', 'other');
  assert.deepEqual(await rangesOf(bitmaps, 'other'), [{ offset: 8 * KiB, length: 4 * KiB }]);
  const listed = await bitmaps.list();
  assert.deepEqual(
    listed.map(({ name, persistent }) => [name, persistent]),
    [
      ['other', false],
      ['kept', true],
    ],
  );
  await bitmaps.store();
  await bitmaps.remove('other');
  assert.ok(keeper.calls.includes('store: kept'));
  assert.ok(!keeper.calls.some((call) => /memory|other/.test(call)));
});

test('a frozen bitmap says everything until the job has ended, and then what changed since', async () => {
  const bitmaps = new NamedBitmaps(new Notebook());
  await bitmaps.add('b', { granularity });
  bitmaps.mark(0, 1);
  bitmaps.mark(100 * KiB, 1);
  const frozen = await bitmaps.freeze('b');
  bitmaps.mark(200 * KiB, 1);
  assert.equal(frozen.content.count, 8 * KiB);
  assert.equal((await bitmaps.load('b')).count, 12 * KiB);
  for (const call of [
    bitmaps.clear('b'),
    bitmaps.remove('b'),
    bitmaps.rename('b', 'c'),
    bitmaps.setEnabled('b', false),
    bitmaps.merge('b', new DirtyBitmap(size, granularity)),
    bitmaps.freeze('b'),
    bitmaps.hold('b'),
    bitmaps.prepareResize(),
  ])
    await refused(call, 'busy', /^Bitmap 'b' is currently in use by another operation and cannot be used$/);
  assert.equal((await bitmaps.list())[0]?.busy, true);
  await frozen.end();
  await frozen.end();
  assert.deepEqual(await rangesOf(bitmaps, 'b'), [{ offset: 200 * KiB, length: 4 * KiB }]);
  assert.equal((await bitmaps.list())[0]?.busy, false);
  bitmaps.mark(300 * KiB, 1);
  assert.equal((await bitmaps.load('b')).count, 8 * KiB);
});

test('what a job did not get to stays dirty', async () => {
  const bitmaps = new NamedBitmaps(new Notebook());
  await bitmaps.add('b', { granularity });
  bitmaps.mark(0, 1);
  bitmaps.mark(100 * KiB, 1);
  const failed = await bitmaps.freeze('b');
  bitmaps.mark(200 * KiB, 1);
  await failed.end(failed.content);
  assert.equal((await bitmaps.load('b')).count, 12 * KiB);
  const half = await bitmaps.freeze('b');
  half.content.clear(0, 64 * KiB);
  await half.end(half.content);
  assert.deepEqual(
    (await rangesOf(bitmaps, 'b')).map(({ offset }) => offset),
    [100 * KiB, 200 * KiB],
  );
});

test('a bitmap that does not record says nothing of what changes while it is frozen', async () => {
  const bitmaps = new NamedBitmaps(new Notebook());
  await bitmaps.add('b', { granularity, enabled: false });
  const frozen = await bitmaps.freeze('b');
  bitmaps.mark(0, 1);
  await frozen.end();
  assert.deepEqual(await rangesOf(bitmaps, 'b'), []);
});

test('a bitmap is busy for as long as somebody holds it, and records', async () => {
  const bitmaps = new NamedBitmaps(new Notebook());
  await bitmaps.add('b', { granularity });
  const [one, two] = [await bitmaps.hold('b'), await bitmaps.hold('b')];
  one();
  one();
  await refused(bitmaps.clear('b'), 'busy', /in use/);
  bitmaps.mark(0, 1);
  two();
  assert.equal((await bitmaps.load('b')).count, granularity);
  await bitmaps.clear('b');
  assert.equal((await bitmaps.load('b')).count, 0);
});

test('an inconsistent bitmap can be renamed and removed, and nothing else', async () => {
  const bitmaps = new NamedBitmaps(new Notebook([keptBitmap(facts('bad', true), '')]));
  bitmaps.mark(0, 1);
  for (const call of [
    bitmaps.load('bad'),
    bitmaps.clear('bad'),
    bitmaps.setEnabled('bad', false),
    bitmaps.freeze('bad'),
    bitmaps.hold('bad'),
  ])
    await refused(call, 'invalid', /^Bitmap 'bad' is inconsistent and cannot be used$/);
  await bitmaps.rename('bad', 'worse');
  await bitmaps.remove('worse');
  assert.deepEqual(await bitmaps.list(), []);
});

test('a name is given once, and a rename that fails changes nothing', async () => {
  const keeper = new Notebook();
  const bitmaps = new NamedBitmaps(keeper);
  await bitmaps.add('a', { granularity });
  await bitmaps.add('b', { granularity });
  await refused(bitmaps.rename('a', 'b'), 'exists', /^Bitmap already exists: b$/);
  await refused(bitmaps.rename('a', ''), 'invalid', /empty/);
  await refused(bitmaps.rename('a', 'x'.repeat(1024)), 'invalid', /too long/);
  await refused(bitmaps.rename('no', 'c'), 'not-found', /^Dirty bitmap 'no' not found$/);
  await bitmaps.rename('a', 'a');
  keeper.failing = true;
  await assert.rejects(bitmaps.rename('a', 'c'), /gone/);
  keeper.failing = false;
  assert.deepEqual(
    (await bitmaps.list()).map(({ name }) => name),
    ['a', 'b'],
  );
});

test('what records is marked as in use before it is told of a change', async () => {
  const keeper = new Notebook([
    keptBitmap(facts('b'), ''),
    keptBitmap({ ...facts('off'), enabled: false }, ''),
  ]);
  const bitmaps = new NamedBitmaps(keeper);
  await bitmaps.prepare();
  assert.deepEqual(keeper.calls, ['in use: b']);
  await bitmaps.setEnabled('off', true);
  assert.deepEqual(keeper.calls, ['in use: b', 'in use: b off']);
});
