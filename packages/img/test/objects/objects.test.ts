import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KnownKinds } from '../../src/objects/kinds.ts';
import { makeObjects } from '../../src/objects/objects.ts';
import { Answer, CommandError } from '../../src/report.ts';

const known: KnownKinds = {
  absentKinds: new Set(['iothread']),
  kinds: {
    secret: async () => ({
      properties: { data: 'string', format: ['raw', 'base64'], strict: 'boolean', rounds: 'integer' },
      check: ({ properties }) => {
        if (!properties.has('data')) throw new CommandError("Either 'file' or 'data' must be provided");
      },
    }),
  },
};

const make = (...texts: readonly string[]) => makeObjects(texts, async () => known);

test('an object is found by its id, with its properties as its kind types them', async () => {
  const objects = await make('secret,id=a,data=x,,y,strict=yes,rounds=7,format=base64', 'secret,id=b,data=z');
  assert.deepEqual(objects.find('a'), {
    type: 'secret',
    id: 'a',
    properties: new Map<string, unknown>([
      ['data', 'x,y'],
      ['strict', true],
      ['rounds', 7],
      ['format', 'base64'],
    ]),
  });
  assert.equal(objects.find('b')?.properties.get('data'), 'z');
  assert.equal(objects.find('c'), undefined);
});

test('the same object is defined by JSON', async () => {
  const json = `{"qom-type":"secret","id":"a","data":"x","strict":true,"rounds":7}`;
  const objects = await make(json);
  assert.deepEqual(objects.find('a'), (await make('secret,id=a,data=x,strict=on,rounds=7')).find('a'));
});

/** The sentences are those of qemu-img 7.2. */
const refused: readonly (readonly [texts: readonly string[], sentence: string])[] = [
  [[''], "Parameter 'qom-type' is missing"],
  [['id=a'], "Parameter 'qom-type' is missing"],
  [['bogus,id=a'], "Parameter 'qom-type' does not accept value 'bogus'"],
  [['secret'], "Parameter 'id' is missing"],
  [['secret,id=a'], "Either 'file' or 'data' must be provided"],
  [['secret,id=0a,data=x'], "Parameter 'id' expects an identifier"],
  [['secret,id=a,data=x,bogus=1'], "Parameter 'bogus' is unexpected"],
  [['secret,id=a,data=x,format=foo'], "Parameter 'format' does not accept value 'foo'"],
  [['secret,id=a,data=x,strict=foo'], "Parameter 'strict' expects 'on' or 'off'"],
  [['secret,id=a,data=x,rounds=foo'], "Parameter 'rounds' expects integer"],
  [['{"qom-type":null}'], "Invalid parameter type for 'qom-type', expected: string"],
  [['{"qom-type":"secret","id":"a","data":1}'], "Invalid parameter type for 'data', expected: string"],
  [
    ['{"qom-type":"secret","id":"a","strict":"on"}'],
    "Invalid parameter type for 'strict', expected: boolean",
  ],
  [['{'], 'JSON parse error, premature EOI'],
  [
    ['secret,id=a,data=x', 'secret,id=a,data=x'],
    "attempt to add duplicate property 'a' to object (type 'container')",
  ],
  [['iothread,id=a'], "objects of type 'iothread' are not supported yet"],
];

for (const [texts, sentence] of refused) {
  test(`${texts.join(' and ')} is refused`, async () => {
    await assert.rejects(make(...texts), (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(error.message, sentence);
      return true;
    });
  });
}

test('help lists the kinds, and the properties of one', async () => {
  const answer = async (text: string): Promise<string> => {
    const error: unknown = await make(text).then(undefined, (thrown: unknown) => thrown);
    assert.ok(error instanceof Answer);
    return error.text;
  };
  assert.equal(await answer('help'), 'List of user creatable objects:\n  secret\n');
  const lines = ['data=<string>', 'format=<raw|base64>', 'rounds=<int>', 'strict=<bool>'];
  assert.equal(
    await answer('secret,help'),
    `secret options:\n${lines.map((line) => `  ${line}\n`).join('')}`,
  );
});
