import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeOptions, type OptionTable, parseLine } from '../src/options.ts';
import { UsageError } from '../src/report.ts';

const table = {
  format: { letter: 'f', name: 'format', value: 'FMT', help: 'the format' },
  output: { name: 'output', value: 'FORM', help: 'how to print' },
  object: { name: 'object', value: 'DEF', help: 'an object' },
  quiet: { letter: 'q', help: 'say nothing' },
  progress: { letter: 'p', help: 'show progress' },
  chain: { name: 'backing-chain', help: 'the whole chain' },
  lists: { letter: 'o', value: 'LIST', help: 'options', many: true },
  count: { letter: 'n', value: 'N', help: 'a number', read: toNumber },
} as const satisfies OptionTable;

function toNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new UsageError(`not a number: ${text}`);
  return Number(text);
}

function parse(...words: readonly string[]) {
  const line = parseLine(table, words);
  assert.notEqual(line, 'help');
  return line as Exclude<typeof line, 'help'>;
}

function refusal(...words: readonly string[]): string {
  try {
    parseLine(table, words);
  } catch (error) {
    assert.ok(error instanceof UsageError);
    return error.message;
  }
  throw new Error(`accepted: ${words.join(' ')}`);
}

test('a value may be joined to its letter or follow it', () => {
  assert.equal(parse('-fqcow2').options.format, 'qcow2');
  assert.equal(parse('-f', 'qcow2').options.format, 'qcow2');
  assert.equal(parse('-f=x').options.format, '=x');
});

test('letters may be grouped, the last of them with a value', () => {
  const { options } = parse('-pqfraw');
  assert.deepEqual([options.progress, options.quiet, options.format], [true, true, 'raw']);
});

test('a value may look like an option', () => {
  assert.equal(parse('-f', '-q').options.format, '-q');
  assert.equal(parse('-f', '--').options.format, '--');
  assert.equal(parse('-f', '').options.format, '');
});

test('a long name takes its value behind = or as the next word', () => {
  assert.equal(parse('--output=json').options.output, 'json');
  assert.equal(parse('--output', 'json').options.output, 'json');
  assert.equal(parse('--output=').options.output, '');
});

test('a long name may be cut short while it stays unique', () => {
  assert.equal(parse('--ou', 'json').options.output, 'json');
  assert.equal(parse('--back').options.chain, true);
  assert.equal(refusal('--o', 'json'), "unrecognized option '--o'");
});

test('options may stand among the operands, and -- ends them', () => {
  const line = parse('a', '-q', 'b', '--', '-p', '--output');
  assert.deepEqual(line.operands, ['a', 'b', '-p', '--output']);
  assert.equal(line.options.quiet, true);
  assert.equal(line.options.progress, undefined);
});

test('what stands behind -- is told apart, and so is that nothing does', () => {
  assert.deepEqual(parse('a', '--', 'b', '--', '-c').afterDashes, ['b', '--', '-c']);
  assert.deepEqual(parse('a', '--').afterDashes, []);
  assert.equal(parse('a').afterDashes, undefined);
});

test('a lone dash and an empty word are operands', () => {
  assert.deepEqual(parse('-', '').operands, ['-', '']);
});

test('the last value counts, and all of them where a list is meant', () => {
  const { options } = parse('-f', 'raw', '-o', 'a', '-f', 'qcow2', '-ob');
  assert.equal(options.format, 'qcow2');
  assert.deepEqual(options.lists, ['a', 'b']);
  assert.deepEqual(parse().options.lists, []);
});

test('what is not in the table is refused in the words of qemu-img', () => {
  assert.equal(refusal('-Z'), "unrecognized option '-Z'");
  assert.equal(refusal('--bogus=1'), "unrecognized option '--bogus=1'");
  assert.equal(refusal('--q'), "unrecognized option '--q'");
  assert.equal(refusal('--backing-chain=x'), "unrecognized option '--backing-chain=x'");
  assert.equal(refusal('-q=1'), "unrecognized option '-q=1'");
  assert.equal(refusal('-f'), "missing argument for option '-f'");
  assert.equal(refusal('a', '-qf'), "missing argument for option '-qf'");
  assert.equal(refusal('--output'), "missing argument for option '--output'");
});

test('the first thing wrong on the line is the one that is reported', () => {
  assert.equal(refusal('-n', 'x', '-Z'), 'not a number: x');
  assert.equal(refusal('-Z', '-n', 'x'), "unrecognized option '-Z'");
});

test('help is given before what follows it is judged, and not before what precedes it', () => {
  assert.equal(parseLine(table, ['-h', '-Z']), 'help');
  assert.equal(parseLine(table, ['a', '--he', '-f']), 'help');
  assert.equal(refusal('-Z', '--help'), "unrecognized option '-Z'");
});

test('the help lists every option of the table once', () => {
  const help = describeOptions(table);
  for (const words of ['-f, --format=FMT', '    --output=FORM', '-q ', '-o LIST', '-h, --help']) {
    assert.equal(help.split(words).length, 2, `${words} in\n${help}`);
  }
});
