import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { requires, run, temporaryFolder } from '@strata/testkit';
import { authorization } from '../../src/objects/authz.ts';
import { makeObjects } from '../../src/objects/objects.ts';
import { CommandError } from '../../src/report.ts';

test('one name is let in, and nobody without a name', async () => {
  const objects = await makeObjects(['authz-simple,id=a,identity=CN=alice,,O=x']);
  const judge = authorization(objects, 'a');
  assert.deepEqual(['CN=alice,O=x', 'CN=alice', 'CN=alice,O=xx', '', undefined].map(judge), [
    true,
    false,
    false,
    false,
    false,
  ]);
});

// The example of QEMU's "Authorization services".
const list = {
  rules: [
    { match: 'CN=fred', policy: 'allow', format: 'exact' },
    { match: 'CN=dan?', policy: 'deny', format: 'glob' },
    { match: 'CN=dan*', policy: 'allow', format: 'glob' },
    { match: 'CN=a.b', policy: 'allow', format: 'glob' },
  ],
  policy: 'deny',
};

test('the first rule of a list that fits decides', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('list');
  await writeFile(path, JSON.stringify(list));
  const judge = authorization(await makeObjects([`authz-list-file,id=a,filename=${path}`]), 'a');
  const judged = [
    'CN=fred',
    'CN=freddy',
    'CN=dan',
    'CN=dann',
    'CN=daniel',
    'CN=a.b',
    'CN=axb',
    undefined,
  ].map(judge);
  assert.deepEqual(judged, [true, false, true, false, true, true, false, false]);
});

test('the rules of a list stand on the command line as well', async () => {
  const rules = list.rules.map(
    ({ match, policy, format }, index) =>
      `rules.${index}.match=${match},rules.${index}.policy=${policy},rules.${index}.format=${format}`,
  );
  const objects = await makeObjects([
    `authz-list,id=a,policy=deny,${rules.join(',')}`,
    JSON.stringify({ 'qom-type': 'authz-list', id: 'b', ...list }),
    'authz-list,id=c,policy=allow,rules.0.match=CN=fred,,O=x,rules.0.policy=deny',
    'authz-list,id=d',
  ]);
  const names = ['CN=fred', 'CN=freddy', 'CN=dan', 'CN=dann', 'CN=daniel', 'CN=fred,O=x', undefined];
  const judged = (id: string) => names.map(authorization(objects, id));
  assert.deepEqual(judged('a'), [true, false, true, false, true, false, false]);
  assert.deepEqual(judged('b'), judged('a'));
  assert.deepEqual(judged('c'), [true, true, true, true, true, false, false]);
  assert.deepEqual(judged('d'), [false, false, false, false, false, false, false]);
});

test('a list that is wrong is refused in the words of qemu-img', requires('qemu-img'), async () => {
  for (const definition of [
    'authz-list,id=a,rules.0.match=x',
    'authz-list,id=a,rules.0.policy=allow',
    'authz-list,id=a,rules.0.match=x,rules.0.policy=maybe',
    'authz-list,id=a,policy=maybe',
    'authz-list,id=a,rules=x',
    'authz-list,id=a,rules.a=x',
    'authz-list,id=a,rules.0=x',
    'authz-list,id=a,rules.1.match=x',
    'authz-list,id=a,rules.0.match=x,rules.0.policy=allow,rules.0.format=re',
    'authz-list,id=a,rules.0.match=x,rules.0.policy=allow,rules.0.foo=1',
    '{"qom-type":"authz-list","id":"a","rules":[{"match":1,"policy":"allow"}]}',
    '{"qom-type":"authz-list","id":"a","rules":[{"policy":"allow"}]}',
    '{"qom-type":"authz-list","id":"a","rules":[1]}',
    '{"qom-type":"authz-list","id":"a","rules":{}}',
  ]) {
    const { stderr } = await run('qemu-img', ['info', '--object', definition, '/nowhere']);
    await assert.rejects(makeObjects([definition]), (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(`qemu-img: ${error.message}`, stderr.split('\n')[0], definition);
      return true;
    });
  }
});

test('a list that changes is read anew, unless that is switched off; one that is gone lets nobody in', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('list');
  await writeFile(path, '{"policy":"allow"}');
  const objects = await makeObjects([
    `authz-list-file,id=a,filename=${path}`,
    `authz-list-file,id=b,filename=${path},refresh=off`,
  ]);
  const [fresh, kept] = [authorization(objects, 'a'), authorization(objects, 'b')];
  assert.deepEqual([fresh('x'), kept('x')], [true, true]);
  await writeFile(path, '{"policy":"deny"}');
  assert.deepEqual([fresh('x'), kept('x')], [false, true]);
  await writeFile(path, '{');
  assert.deepEqual([fresh('x'), kept('x')], [false, true]);
});

const refused: readonly (readonly [string, RegExp])[] = [
  ['authz-simple,id=a', /Parameter 'identity' is missing/],
  ['authz-list-file,id=a', /Parameter 'filename' is missing/],
  ['authz-list-file,id=a,filename=/nowhere', /Unable to read the access list/],
];

for (const [text, words] of refused) {
  test(`${text} is refused`, async () => {
    await assert.rejects(
      makeObjects([text]),
      (error) => error instanceof CommandError && words.test(error.message),
    );
  });
}

for (const text of [
  '[]',
  '{"rules":1}',
  '{"rules":[1]}',
  '{"rules":[{"policy":"allow"}]}',
  '{"policy":"maybe"}',
]) {
  test(`a list that is ${text} is refused`, async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.file('list'), text);
    await assert.rejects(makeObjects([`authz-list-file,id=a,filename=${folder.file('list')}`]), CommandError);
  });
}

test('only what judges clients does', async () => {
  const objects = await makeObjects(['authz-simple,id=a,identity=x']);
  assert.throws(() => authorization(objects, 'b'), CommandError);
});
