import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandError } from '../../src/report.ts';
import { parseKeyval } from '../../src/typed/keyval.ts';

const read = (text: string) => parseKeyval(text, 'type').members;

test('dots lead into objects, numbers into lists, and doubled commas are commas', () => {
  assert.deepEqual(
    read('secret,id=a,data=x,,y,,,b.c=1,b.d.0=p,b.d.1=q,id=z,'),
    new Map<string, unknown>([
      ['type', 'secret'],
      ['id', 'z'],
      ['data', 'x,y,'],
      [
        'b',
        new Map<string, unknown>([
          ['c', '1'],
          ['d', ['p', 'q']],
        ]),
      ],
    ]),
  );
});

test('the first value may stand alone, and only the first', () => {
  assert.deepEqual(read(''), new Map());
  assert.deepEqual(read('type=t'), new Map([['type', 't']]));
  assert.deepEqual(read('__org.example_v=1'), new Map([['__org.example_v', '1']]));
});

test('help is asked for by a key without a value', () => {
  for (const text of ['help', '?', 'secret,help', 'secret,id=a,?']) {
    assert.equal(parseKeyval(text, 'type').asksForHelp, true, text);
  }
  assert.equal(parseKeyval('secret,help=1', 'type').asksForHelp, false);
});

const long = 'a'.repeat(128);

/** Each sentence was printed by qemu-img 7.2 for `--object` and this text. */
const refused: readonly (readonly [text: string, sentence: string])[] = [
  [',secret', "Invalid parameter ''"],
  ['secret,=x', "Invalid parameter ''"],
  ['secret,1=2', "Invalid parameter '1'"],
  ['secret,_a=1', "Invalid parameter '_a'"],
  ['secret,a..b=2', "Invalid parameter 'a..b'"],
  [' {"a":"b","id":"s0"}', `Invalid parameter '"id":"s0"}'`],
  ['secret,data', "Expected '=' after parameter 'data'"],
  ['secret,a.0=1,a.b=1', "Parameters 'a.*' used inconsistently"],
  ['secret,data.x=1,data=x', "Parameters 'data.*' used inconsistently"],
  ['secret,a.1=1', "Parameter 'a.0' missing"],
  [`secret,${long}=1`, `Parameter '${long}' is too long`],
  [`secret,b.${long}=1`, `Parameter fragment '${long}' is too long`],
];

for (const [text, sentence] of refused) {
  test(`${text.slice(0, 40)} is refused as qemu-img refuses it`, () => {
    assert.throws(
      () => read(text),
      (error) => {
        assert.ok(error instanceof CommandError);
        assert.equal(error.message, sentence);
        return true;
      },
    );
  });
}
