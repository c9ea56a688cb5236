import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { parseKeyFile } from '../../src/tls/key-file.ts';

const keys = (text: string): Record<string, string> =>
  Object.fromEntries(
    Array.from(parseKeyFile(text, 'f'), ([name, key]) => [name, Buffer.from(key).toString('hex')]),
  );

test('each line is a user and a key in hexadecimal digits', () => {
  assert.deepEqual(keys('alice:00ff\nbob:ABcd\r\n'), { alice: '00ff', bob: 'abcd' });
  assert.deepEqual(keys('# made by psktool\n\nalice:00'), { alice: '00' });
  assert.deepEqual(keys('alice:00\nalice:01\n'), { alice: '01' });
});

for (const text of [
  '',
  '# nothing\n',
  'alice',
  ':00',
  'alice:',
  'alice:0',
  'alice:zz',
  'a:b:00',
  `a:${'00'.repeat(257)}`,
]) {
  test(`'${text.slice(0, 20)}' is refused, without telling any of it`, () => {
    assert.throws(
      () => parseKeyFile(text, 'keys'),
      (error) => isDiskError(error, 'invalid') && !error.message.includes('alice'),
    );
  });
}
