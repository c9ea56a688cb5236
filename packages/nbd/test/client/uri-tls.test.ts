import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { requires, temporaryFolder, tlsFolder } from '@strata/testkit';
import fc from 'fast-check';
import { formatNbdUri, parseNbdUri } from '../../src/client/uri.ts';
import { loadTls, type TlsWish } from '../../src/client/uri-tls.ts';

const nothing: TlsWish = {
  certificates: undefined,
  keyFile: undefined,
  username: undefined,
  hostname: undefined,
  verifyPeer: undefined,
};

// libnbd, nbd_connect_uri(3), "TLS URI"
const readable: readonly (readonly [string, TlsWish])[] = [
  ['nbds://example.com', nothing],
  ['nbds://example.com/x?tls-type=x509', nothing],
  ['nbds://example.com/?tls-certificates=/etc/pki', { ...nothing, certificates: '/etc/pki' }],
  ['nbds://alice@h/?tls-psk-file=keys.psk', { ...nothing, keyFile: 'keys.psk', username: 'alice' }],
  [
    'nbds+unix:///?socket=/s&tls-psk-file=/k&tls-username=a%40b',
    { ...nothing, keyFile: '/k', username: 'a@b' },
  ],
  [
    'nbds+unix:///?socket=/s&tls-hostname=h&tls-verify-peer=0',
    { ...nothing, hostname: 'h', verifyPeer: false },
  ],
  ['NBDS://h/?tls-verify-peer=1', { ...nothing, verifyPeer: true }],
];

for (const [uri, wish] of readable) {
  test(`${uri} asks for TLS with ${JSON.stringify(wish)}`, () => {
    assert.deepEqual(parseNbdUri(uri).tls, wish);
  });
}

const refused: readonly (readonly [string, RegExp])[] = [
  ['nbd://h/?tls-psk-file=/k', /'tls-psk-file' needs the scheme nbds/],
  ['nbd+unix:///?socket=/s&tls-verify-peer=1', /needs the scheme nbds/],
  ['nbds://h/?tls-type=none', /none of x509 and psk/],
  ['nbds://h/?tls-type=psk', /needs tls-psk-file/],
  ['nbds://h/?tls-type=x509&tls-psk-file=/k', /without tls-psk-file/],
  ['nbds://h/?tls-certificates=/c&tls-psk-file=/k', /exclude each other/],
  ['nbds://h/?tls-verify-peer=maybe', /is 0 or 1/],
  ['nbds://h/?tls-new=1', /unknown parameter/],
  ['nbds+unix:///', /socket parameter is missing/],
];

for (const [uri, reason] of refused) {
  test(`${uri} is refused`, () => {
    assert.throws(
      () => parseNbdUri(uri),
      (error) => isDiskError(error, 'invalid') && reason.test(error.message),
    );
  });
}

test('a formatted wish is read back as it was', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1 }).map((name) => name.replaceAll('\0', 'x'));
  const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
  const wish = fc
    .record({
      certificates: optional(text),
      keyFile: optional(text),
      username: optional(text),
      hostname: optional(text),
      verifyPeer: optional(fc.boolean()),
    })
    .map((record) => ({ ...record }))
    .filter(({ certificates, keyFile }) => certificates === undefined || keyFile === undefined);
  fc.assert(
    fc.property(wish, fc.boolean(), (tls, isUnix) => {
      const address = isUnix ? { path: '/a b' } : { host: 'h', port: 10809 };
      const target = { address, exportName: 'x', user: undefined, tls };
      assert.deepEqual(parseNbdUri(formatNbdUri(target)), target);
    }),
  );
});

test('the credentials that a URI names are read from where it says', requires('openssl'), async () => {
  await using folder = await temporaryFolder();
  const dir = folder.file('pki');
  await tlsFolder(dir);
  const x509 = loadTls({ certificates: dir, hostname: 'h', verifyPeer: false });
  assert.deepEqual([x509.credentials.type, x509.hostname, x509.verifyPeer], ['x509', 'h', false]);
  const named = loadTls({ keyFile: join(dir, 'keys.psk'), username: 'bob' });
  assert.deepEqual([named.credentials.type, named.username], ['psk', 'bob']);
  const unnamed = loadTls({ keyFile: join(dir, 'keys.psk') });
  assert.equal(unnamed.username, userInfo().username);
  assert.throws(
    () => loadTls({ keyFile: join(dir, 'none') }),
    (error) => isDiskError(error, 'not-found'),
  );
});
