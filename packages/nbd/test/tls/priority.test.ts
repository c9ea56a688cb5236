import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { contextOptions } from '../../src/tls/credentials.ts';
import { parsePriority } from '../../src/tls/priority.ts';

const every = ['AES-128-GCM', 'AES-256-GCM', 'CHACHA20-POLY1305', 'AES-128-CBC'];
const without = (...names: readonly string[]) => every.filter((name) => !names.includes(name));

const read: readonly (readonly [string, string, string, readonly string[], number | undefined])[] = [
  ['NORMAL', 'TLSv1.2', 'TLSv1.3', every, undefined],
  ['PERFORMANCE', 'TLSv1.2', 'TLSv1.3', every, undefined],
  ['SECURE128', 'TLSv1.2', 'TLSv1.3', every, 3],
  ['SECURE192', 'TLSv1.2', 'TLSv1.3', every, 4],
  ['SECURE256', 'TLSv1.2', 'TLSv1.3', every, 5],
  ['NORMAL:-VERS-TLS1.3', 'TLSv1.2', 'TLSv1.2', every, undefined],
  ['NORMAL:-VERS-TLS1.2', 'TLSv1.3', 'TLSv1.3', every, undefined],
  ['NORMAL:-VERS-ALL:+VERS-TLS1.3', 'TLSv1.3', 'TLSv1.3', every, undefined],
  ['NORMAL:!VERS-TLS-ALL:+VERS-TLS1.2', 'TLSv1.2', 'TLSv1.2', every, undefined],
  ['NORMAL:-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1', 'TLSv1.2', 'TLSv1.3', every, undefined],
  ['NORMAL:-AES-128-GCM:-ARCFOUR-128', 'TLSv1.2', 'TLSv1.3', without('AES-128-GCM'), undefined],
  ['NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305', 'TLSv1.2', 'TLSv1.3', ['CHACHA20-POLY1305'], undefined],
];
for (const [text, minVersion, maxVersion, ciphers, securityLevel] of read) {
  test(`${text} allows ${minVersion} to ${maxVersion} with ${ciphers.join(', ')}`, () => {
    const policy = parsePriority(text);
    assert.deepEqual(
      { ...policy, ciphers: [...policy.ciphers].sort() },
      {
        minVersion,
        maxVersion,
        ciphers: [...ciphers].sort(),
        securityLevel,
      },
    );
  });
}

for (const text of [
  '',
  'NONE',
  '@SYSTEM',
  'LEGACY',
  'normal',
  'NORMAL:',
  'NORMAL:%COMPAT',
  'NORMAL:+VERS-TLS1.1',
  'NORMAL:+3DES-CBC',
  'NORMAL:-ECDHE-RSA',
  'NORMAL:-GROUP-X25519',
  'NORMAL:VERS-TLS1.3',
]) {
  test(`'${text}' is refused, because it would not be done as it is written`, () => {
    assert.throws(
      () => parsePriority(text),
      (error) => isDiskError(error, 'not-supported'),
    );
  });
}

for (const text of ['NORMAL:-VERS-ALL', 'NORMAL:-CIPHER-ALL', 'NORMAL:-VERS-TLS1.2:-VERS-TLS1.3']) {
  test(`${text}, which allows nothing, is refused`, () => {
    assert.throws(
      () => parsePriority(text),
      (error) => isDiskError(error, 'invalid'),
    );
  });
}

test('a policy chooses among the ciphers that fit the credentials', () => {
  const chosen = (text: string, credentials: 'x509' | 'psk') => {
    const policy = parsePriority(text);
    const keys = new Map([['a', new Uint8Array(32)]]);
    const given = credentials === 'psk' ? { type: credentials, keys, policy } : { type: credentials, policy };
    return contextOptions(given).ciphers;
  };
  assert.equal(
    chosen('NORMAL:-CIPHER-ALL:+AES-256-GCM', 'x509'),
    'TLS_AES_256_GCM_SHA384:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384',
  );
  assert.match(String(chosen('SECURE192', 'x509')), /:@SECLEVEL=4$/);
  assert.equal(
    chosen('NORMAL:-AES-128-GCM:-AES-128-CBC', 'psk'),
    'TLS_CHACHA20_POLY1305_SHA256:ECDHE-PSK-CHACHA20-POLY1305',
  );
  assert.throws(
    () => chosen('NORMAL:-CIPHER-ALL:+AES-128-CBC', 'x509'),
    (error) => isDiskError(error, 'invalid'),
  );
});
