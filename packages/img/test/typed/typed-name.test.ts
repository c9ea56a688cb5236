import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { UsageError } from '../../src/report.ts';
import { describedImage } from '../../src/typed/typed-name.ts';

test('a path and a URI are no descriptions', () => {
  for (const name of ['x', './json:{}', 'nbd://localhost/json:{}', '']) {
    assert.equal(describedImage(name, {}), undefined);
  }
});

test('a list of options and JSON describe the same image', () => {
  const list =
    'driver=raw,offset=512,file.driver=nbd,file.server.type=unix,file.server.path=/s,file.export=e';
  const server = { type: 'unix', path: '/s' };
  const json = { driver: 'raw', offset: '512', file: { driver: 'nbd', server, export: 'e' } };
  assert.deepEqual(
    describedImage(list, { imageOptions: true }),
    describedImage(`json:${JSON.stringify(json)}`, {}),
  );
});

test('dots and objects may be mixed in JSON, lists are numbered', () => {
  const image = describedImage(
    "json:{'file.filename':'a','driver':'raw','backing':{'driver':'raw','file':{'filename':'b'}}}",
    {},
  );
  assert.ok(image !== undefined && typeof image.backing === 'object' && image.file.kind === 'protocol');
  assert.equal(image.file.options.get('filename'), 'a');
  assert.ok(image.backing.file.kind === 'protocol');
  assert.equal(image.backing.file.options.get('filename'), 'b');
});

test('a format given beside options is a mistake, beside JSON it wins', () => {
  const manner = { imageOptions: true, format: 'raw' };
  assert.throws(() => describedImage('driver=raw,file.filename=x', manner), UsageError);
  const image = describedImage("json:{'driver':'qcow2','file':{'filename':'x'}}", { format: 'raw' });
  assert.equal(image?.driver, 'raw');
});

test('drivers and options that exist elsewhere are refused by name', () => {
  for (const [options, what] of [
    ['driver=vmdk,file.filename=x', /^driver 'vmdk' is not supported$/],
    ['driver=raw,file.driver=ssh,file.path=x', /^driver 'ssh' is not supported$/],
    [
      'driver=qcow2,file.filename=x,data-file.driver=qcow2,data-file.file.filename=y',
      /part of another image/,
    ],
  ] as const) {
    assert.throws(
      () => describedImage(options, { imageOptions: true }),
      (error) => isDiskError(error, 'not-supported') && what.test(error.message),
    );
  }
});

test('descriptions inside each other end', () => {
  const nested = `json:${"{'file':".repeat(5000)}1${'}'.repeat(5000)}`;
  assert.throws(() => describedImage(nested, {}), isDiskError);
  const long = `driver=raw,${'file.'.repeat(20_000)}filename=x`;
  assert.throws(() => describedImage(long, { imageOptions: true }), isDiskError);
});
