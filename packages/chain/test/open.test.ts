import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BackingReference, isDiskError } from '@strata/block';
import { allowLocal, denyAll } from '../src/gate.ts';
import { type OpenOptions, openChain, openWritableChain } from '../src/open.ts';
import { BlockLayer, blockFormat } from './block-layer.ts';
import { type FakeFile, fakePlaces, type RecordedPlaces } from './block-places.ts';

interface Described {
  readonly size?: number;
  readonly backing?: BackingReference;
  readonly file?: FakeFile;
}

/** Images in `/i`, each given by what it records of the one below. */
function images(described: Readonly<Record<string, Described>>): {
  options: OpenOptions;
  places: RecordedPlaces;
  layers: Map<string, BlockLayer>;
} {
  const layers = new Map<string, BlockLayer>();
  const files = new Map<string, FakeFile>();
  for (const [name, { size = 64, backing, file = {} }] of Object.entries(described)) {
    layers.set(`/i/${name}`, new BlockLayer(size, backing && { backing }));
    files.set(`/i/${name}`, file);
  }
  const places = fakePlaces(files);
  const raw = blockFormat(layers, { name: 'raw', magic: -1 });
  const options = { formats: [blockFormat(layers), { ...raw, exclusive: false }], gate: allowLocal, places };
  return { options, places, layers };
}

const blocks = (name: string): BackingReference => ({ name, format: 'blocks' });

test('a chain opens from the top down, each file locked before its image is read, and closes whole', async () => {
  const { options, places, layers } = images({
    top: { backing: blocks('mid') },
    mid: { backing: blocks('base') },
    base: {},
  });
  {
    await using chain = await openWritableChain('/i/top', options);
    assert.deepEqual(
      chain.images.map((image) => image.path),
      ['/i/top', '/i/mid', '/i/base'],
    );
    assert.deepEqual(places.log, [
      ...['open /i/top', 'lock /i/top write'],
      ...['open /i/mid', 'lock /i/mid read'],
      ...['open /i/base', 'lock /i/base read'],
    ]);
  }
  assert.deepEqual(places.log.slice(6), ['close /i/top', 'close /i/mid', 'close /i/base']);
  assert.ok([...layers.values()].every((layer) => layer.disposed));
});

test('the top alone opens when backing files are not wanted', async () => {
  const { options } = images({ top: { backing: blocks('absent') } });
  await using chain = await openChain('/i/top', { ...options, backing: false });
  assert.equal(chain.images.length, 1);
});

test('a missing file deep in the chain is reported with the way to it, and what was open is closed', async () => {
  const { options, places } = images({ top: { backing: blocks('mid') }, mid: { backing: blocks('gone') } });
  await assert.rejects(openChain('/i/top', options), (error) => {
    assert.ok(isDiskError(error, 'not-found'));
    assert.equal(
      error.message,
      "Could not open backing file: Could not open backing file: Could not open '/i/gone': No such file or directory",
    );
    assert.equal(error.context.path, '/i/top');
    return true;
  });
  assert.deepEqual(
    places.log.filter((line) => line.startsWith('close')),
    ['close /i/top', 'close /i/mid'],
  );
});

test('a chain that comes back to a file it holds is refused, whatever the file is called', async () => {
  const { options } = images({
    top: { backing: blocks('alias') },
    alias: { backing: blocks('top'), file: { identity: '/i/top' } },
  });
  await assert.rejects(openChain('/i/top', options), (error) => {
    assert.ok(isDiskError(error, 'corrupt'));
    assert.match(error.message, /^Backing file '\/i\/alias' creates an infinite loop\.$/);
    return true;
  });
});

test('two hundred images are a chain, one more is an error, and no stack is spent on either', async () => {
  const build = (count: number) => {
    const described: Record<string, Described> = {};
    for (let index = 0; index < count; index++) {
      described[`${index}`] = index + 1 < count ? { backing: blocks(`${index + 1}`) } : {};
    }
    return images(described).options;
  };
  await using chain = await openChain('/i/0', build(200));
  assert.equal(chain.images.length, 200);
  await assert.rejects(openChain('/i/0', build(2000)), (error) => isDiskError(error, 'limit'));
});

test('the gate is asked before a backing file is opened', async () => {
  const { options, places } = images({ top: { backing: blocks('base') }, base: {} });
  await assert.rejects(openChain('/i/top', { ...options, gate: denyAll }), (error) =>
    isDiskError(error, 'denied'),
  );
  assert.ok(!places.log.includes('open /i/base'));
});

test('the gate judges the file behind a link before its image is read', async () => {
  const { options, places } = images({
    top: { backing: blocks('base') },
    base: { file: { realPath: '/etc/secret' } },
  });
  const gate = {
    ...allowLocal,
    admit: (realPath: string) =>
      realPath.startsWith('/i/') ? Promise.resolve() : denyAll.admit('', blocks('x'), ''),
  };
  await assert.rejects(openChain('/i/top', { ...options, gate }), (error) => isDiskError(error, 'denied'));
  assert.ok(!places.log.includes('lock /i/base read'));
});

test('without a format the first bytes tell, but raw is never guessed for writing', async () => {
  const { options } = images({ known: {}, plain: { file: { magic: 0 } } });
  await using known = await openWritableChain('/i/known', options);
  assert.equal(known.images[0]?.format.name, 'blocks');
  await using plain = await openChain('/i/plain', options);
  assert.equal(plain.images[0]?.format.name, 'raw');
  await assert.rejects(openWritableChain('/i/plain', options), (error) => isDiskError(error, 'denied'));
  await using named = await openWritableChain('/i/plain', { ...options, format: 'raw' });
  assert.equal(named.images[0]?.format.name, 'raw');
});

test('a format that nobody knows is refused by its name', async () => {
  const { options } = images({ top: { backing: { name: 'base', format: 'vmfs' } }, base: {} });
  await assert.rejects(openChain('/i/top', options), /Unknown driver 'vmfs'/);
});
