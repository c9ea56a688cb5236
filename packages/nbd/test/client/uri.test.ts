import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { requires, run } from '@strata/testkit';
import fc from 'fast-check';
import { formatNbdUri, isNbdUri, type NbdTarget, parseNbdUri } from '../../src/client/uri.ts';

const tcp = (host: string, port: number, exportName = '', user?: string): NbdTarget => ({
  address: { host, port },
  exportName,
  user,
});
const unix = (path: string, exportName = '', user?: string): NbdTarget => ({
  address: { path },
  exportName,
  user,
});

const readable: readonly (readonly [string, NbdTarget])[] = [
  // The table of the URI specification, "NBD URI export name".
  ['nbd://example.com/disk', tcp('example.com', 10809, 'disk')],
  ['nbd+unix:///disk?socket=sock', unix('sock', 'disk')],
  ['nbd://example.com/', tcp('example.com', 10809)],
  ['nbd://example.com', tcp('example.com', 10809)],
  ['nbd://example.com//disk', tcp('example.com', 10809, '/disk')],
  ['nbd://example.com/hello%20world', tcp('example.com', 10809, 'hello world')],
  ['nbd+unix:///?socket=%00/abstract', unix('\0/abstract')],
  ['nbd+unix://?socket=/tmp/s', unix('/tmp/s')],
  ['nbd+unix://me@/x?socket=/tmp/s', unix('/tmp/s', 'x', 'me')],
  ['nbd://me%40here@h:1/x', tcp('h', 1, 'x', 'me@here')],
  ['nbd://[::1]:10810/a', tcp('::1', 10810, 'a')],
  ['nbd://[fe80::1%25eth0]/a', tcp('fe80::1%eth0', 10809, 'a')],
  ['nbd://h:/a', tcp('h', 10809, 'a')],
  ['nbd:///a', tcp('localhost', 10809, 'a')],
  ['NBD://h/A', tcp('h', 10809, 'A')],
  ['nbd://h/a/../b', tcp('h', 10809, 'a/../b')],
  ['nbd://h/a+b', tcp('h', 10809, 'a+b')],
  ['nbd://h/%C3%A9', tcp('h', 10809, 'é')],
  ['nbd:h:1', tcp('h', 1)],
  ['nbd:h:1:exportname=a:b%20', tcp('h', 1, 'a:b%20')],
  ['nbd:[::1]:1:exportname=x', tcp('::1', 1, 'x')],
  ['nbd:unix:/tmp/a:b', unix('/tmp/a:b')],
  ['nbd:unix:/tmp/s:exportname=x', unix('/tmp/s', 'x')],
];

for (const [text, target] of readable) {
  test(`${text} names ${JSON.stringify(target.address)} and export '${target.exportName}'`, () => {
    assert.deepEqual(parseNbdUri(text), target);
    assert.equal(isNbdUri(text), true);
  });
}

const refused: readonly (readonly [string, RegExp])[] = [
  ['nbd+unix:///x', /socket parameter is missing/],
  ['nbd+unix:///x?socket=', /socket is empty/],
  ['nbd+unix:///x?socket=%00', /socket is empty/],
  ['nbd+unix:///x?socket=/a%00b', /contains NUL/],
  ['nbd+unix:///x?socket=/a&socket=/b', /given twice/],
  ['nbd+unix:///x?socket=/a&foo=1', /unknown parameter 'foo'/],
  ['nbd+unix://host/x?socket=/a', /no host/],
  ['nbd+unix://:1/x?socket=/a', /no port/],
  ['nbd://h/x?socket=/a', /needs the scheme nbd\+unix/],
  ['nbd://h/x?x-new=%1b', /unknown parameter 'x-new'/],
  ['nbd://h/x?%1b=1', /unknown parameter '\\u\{1b\}'/],
  ['nbd://h/x#y', /fragment/],
  ['nbd://h/a b', /percent-encoded/],
  ['nbd://h/a\nb', /percent-encoded/],
  ['nbd://h/%zz', /export name is not percent-encoded/],
  ['nbd://h/%ff', /export name is not percent-encoded/],
  ['nbd://h/%00', /export name contains NUL/],
  [`nbd://h/${'%C3%A9'.repeat(2049)}`, /longer than 4096 bytes/],
  ['nbd://h:0/', /port/],
  ['nbd://h:65536/', /port/],
  ['nbd://h:1x/', /port/],
  ['nbd://::1/', /host is malformed/],
  ['nbd://[::g]/', /not an IPv6 address/],
  ['nbd://a%20b/', /characters that no host has/],
  ['nbd://a%2Fb/', /characters that no host has/],
  ['nbd:', /address missing/],
  ['nbd:h', /expected nbd:HOST:PORT/],
  ['nbd::1', /expected nbd:HOST:PORT/],
  ['nbd:a@h:1', /expected nbd:HOST:PORT/],
  ['nbd:unix:', /socket is empty/],
  ['http:foo', /expected nbd:/],
];

for (const [text, reason] of refused) {
  test(`${text.slice(0, 60)} is refused as malformed`, () => {
    assert.throws(
      () => parseNbdUri(text),
      (error) => {
        assert.ok(isDiskError(error, 'invalid'), String(error));
        assert.match(error.message, reason);
        return true;
      },
    );
  });
}

for (const text of [
  'nbds+vsock://2:1/',
  'nbd+vsock://2:1/',
  'nbd+ssh://-oProxyCommand=x/',
  'nbds://h/x?tls-type=anon',
]) {
  const cve = text.includes('ssh') ? 'CVE-2025-14946: ' : '';
  test(`${cve}${text} is not supported, and the message says why`, () => {
    assert.throws(
      () => parseNbdUri(text),
      (error) => isDiskError(error, 'not-supported') && /TLS|scheme/.test(error.message),
    );
  });
}

test('names of files are not taken for NBD addresses', () => {
  for (const name of ['disk.qcow2', '/nbd:/x', './nbd:x', 'nbd', 'nbdx:1', 'file:nbd://h']) {
    assert.equal(isNbdUri(name), false, name);
  }
});

const text = fc.string({ unit: 'grapheme' }).map((name) => name.replaceAll('\0', ''));
const nonEmpty = text.filter((name) => name !== '');
const address = fc.oneof(
  nonEmpty.map((path) => ({ path })),
  nonEmpty.map((path) => ({ path: `\0${path}` })),
  fc
    .tuple(fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()), fc.integer({ min: 1, max: 65535 }))
    .map(([host, port]) => ({ host, port })),
);
const target = fc
  .tuple(address, text, fc.option(nonEmpty, { nil: undefined }))
  .map(([given, exportName, user]) => ({ address: given, exportName, user }));

test('a formatted target is read back as it was', () => {
  fc.assert(
    fc.property(target, (given) => {
      const uri = formatNbdUri(given);
      assert.match(uri, /^[\x21-\x7e]+$/);
      assert.deepEqual(parseNbdUri(uri), given);
    }),
  );
});

test('any text is read or refused with a DiskError', () => {
  const hostile = fc.tuple(
    fc.constantFrom('nbd://', 'nbd:', 'nbd+unix:///', 'nbd:unix:', ''),
    fc.string({ unit: 'binary' }),
  );
  fc.assert(
    fc.property(hostile, ([start, rest]) => {
      try {
        parseNbdUri(start + rest);
      } catch (error) {
        assert.ok(isDiskError(error, 'invalid', 'not-supported'), String(error));
      }
    }),
  );
});

test('a name that is not Unicode text has no URI', () => {
  assert.throws(
    () => formatNbdUri(tcp('h', 1, '\ud800')),
    (error) => isDiskError(error, 'invalid'),
  );
});

test('nbdinfo finds the same socket and export in our URI', requires('nbdinfo', 'nbdkit'), async () => {
  const uri = formatNbdUri(unix('$unixsocket', 'a b/c?é#%'));
  const nbdinfo = `nbdinfo --json "${uri.replace('%24unixsocket', '$unixsocket')}"`;
  const args = ['-U', '-', '--filter=exportname', 'memory', '1M', 'exportname=a b/c?é#%'];
  const { status, stdout, stderr } = await run('nbdkit', [
    ...args,
    'exportname-strict=true',
    '--run',
    nbdinfo,
  ]);
  assert.equal(status, 0, stderr);
  assert.equal(JSON.parse(stdout).exports[0]['export-size'], 1048576);
});
