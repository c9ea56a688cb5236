import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  asksForTable,
  type CreationRow,
  creationHelp,
  parseCreation,
  readOptionList,
  showCreation,
} from '../src/creation.ts';
import { CommandError, UsageError } from '../src/report.ts';

const table: readonly CreationRow[] = [
  { name: 'width', type: 'bytes', help: 'Width', standard: '64' },
  { name: 'base', type: 'text', help: 'Base' },
  { name: 'lazy', type: 'switch', help: 'Lazy', standard: 'off' },
  { name: 'count', type: 'number', help: 'Count' },
];

const parse = (...lists: readonly string[]) => Object.fromEntries(parseCreation(table, lists));

test('lists are joined, and the last value of a name counts', () => {
  assert.deepEqual(parse('width=1k,base=a', 'width=2k'), { width: 2048, base: 'a' });
});

test('a doubled comma is a comma of the value', () => {
  assert.deepEqual(parse('base=a,,b=c,,,width=1'), { base: 'a,b=c,', width: 1 });
});

test('a switch may stand alone, and behind "no"', () => {
  assert.deepEqual(parse('lazy'), { lazy: true });
  assert.deepEqual(parse('nolazy'), { lazy: false });
  assert.deepEqual(parse('lazy=off,base'), { lazy: false, base: 'on' });
});

test('numbers may be hexadecimal and negative, and take no suffix', () => {
  assert.deepEqual(parse('count=0x10'), { count: 16 });
  assert.deepEqual(parse('count=-1'), { count: -1 });
  assert.throws(() => parse('count=1k'), new CommandError("Parameter 'count' expects a number"));
});

test('a name that is not in the table is refused', () => {
  assert.throws(() => parse('bogus=1'), new CommandError("Invalid parameter 'bogus'"));
  assert.throws(() => parse('nobogus'), new CommandError("Invalid parameter 'bogus'"));
  assert.throws(() => parse('=1'), new CommandError("Invalid parameter ''"));
  assert.throws(() => parse('width=1,,lazy'), CommandError);
});

test('a list that begins or ends with a single comma is refused', () => {
  for (const list of ['', ',', ',a=1', 'a=1,', 'a=1,,,']) {
    assert.throws(() => readOptionList(list), new UsageError(`Invalid option list: ${list}`));
  }
  assert.equal(readOptionList('a=1,,'), 'a=1,,');
});

test('help is asked for by a word that stands alone in the list', () => {
  assert.ok(asksForTable(['help']));
  assert.ok(asksForTable(['width=1', 'lazy,?']));
  assert.ok(!asksForTable(['base=help', 'base=,,help', 'help=1']));
});

test('the line shows what was given and what stands by itself, with commas doubled', () => {
  assert.equal(showCreation(table, parseCreation(table, [])), 'width=64 lazy=off');
  assert.equal(
    showCreation(table, parseCreation(table, ['lazy,base=a,,b,width=1k'])),
    'width=1024 base=a,,b lazy=on',
  );
});

test('the help is sorted by name', () => {
  assert.equal(
    creationHelp(table),
    [
      '  base=<str>             - Base\n',
      '  count=<num>            - Count\n',
      '  lazy=<bool (on/off)>   - Lazy\n',
      '  width=<size>           - Width\n',
    ].join(''),
  );
});
