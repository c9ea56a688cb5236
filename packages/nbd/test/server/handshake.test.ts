import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ascii, hex, u32 } from './raw-client.ts';
import { greeting, option, reply, request, serving, simple, takeReplies } from './serving.ts';
import { testDisk } from './test-disk.ts';

const disk = testDisk({ size: 1024 * 1024 });
/** HAS_FLAGS, FLUSH, FUA, CACHE, MULTI_CONN; writable: TRIM, WRITE_ZEROES, FAST_ZERO; otherwise READ_ONLY. */
const writableFlags = '0d6d';
const readOnlyFlags = '050f';
const size = '0000000000100000';
const info = {
  export: `0000 ${size} ${writableFlags}`,
  exportWithDf: `0000 ${size} 0ded`,
  exportReadOnly: `0000 ${size} ${readOnlyFlags}`,
  blockSize: '0003 00000001 00001000 02000000',
  description: `0002 ${ascii('the disk')}`,
};

const start = () =>
  serving({
    exports: [
      { name: '', device: disk.device, description: 'the disk' },
      { name: 'ro', source: disk.device },
    ],
  });

const go = (name: string, infos = '0000'): string => u32(name.length) + ascii(name) + infos;
const meta = (name: string, ...queries: readonly string[]): string =>
  u32(name.length) +
  ascii(name) +
  u32(queries.length) +
  queries.map((query) => u32(query.length) + ascii(query)).join('');
const error = (text: string): string => ascii(text);

test('GO is answered with description, block size and export, then requests are served', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send('00000003');
  client.send(option(7, go('')));
  await client.expect(reply(7, 3, info.description));
  await client.expect(reply(7, 3, info.blockSize));
  await client.expect(reply(7, 3, info.export));
  await client.expect(reply(7, 1, ''));
  client.send(request(3, 0, 0));
  await client.expect(simple());
});

test('INFO tells the same and the handshake goes on; a name is told only on request', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send('00000003');
  client.send(option(6, go('ro', '0002 0001 00ff')));
  await client.expect(reply(6, 3, `0001 ${ascii('ro')}`));
  await client.expect(reply(6, 3, info.blockSize));
  await client.expect(reply(6, 3, info.exportReadOnly));
  await client.expect(reply(6, 1, ''));
  client.send(option(3, ''));
  await client.expect(reply(3, 2, `00000000 ${ascii('the disk')}`));
  await client.expect(reply(3, 2, `00000002 ${ascii('ro')}`));
  await client.expect(reply(3, 1, ''));
});

test('DF is offered exactly when structured replies were agreed on', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send('00000003');
  client.send(option(8, ''));
  await client.expect(reply(8, 1, ''));
  client.send(option(6, go('')));
  await client.expect(reply(6, 3, info.description) + reply(6, 3, info.blockSize));
  await client.expect(reply(6, 3, info.exportWithDf) + reply(6, 1, ''));
});

test('MULTI_CONN is not offered when only one client is allowed', async () => {
  await using serve = await serving({ exports: [{ name: '', source: disk.device }], maxConnections: 1 });
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send('00000001');
  client.send(option(1, ''));
  await client.expect(`${size} 040f ${'00'.repeat(124)}`);
});

for (const [claim, flags, zeroes] of [
  ['with 124 zeros', '00000001', 124],
  ['without them if both sides agree', '00000003', 0],
  ['to a client that knows only newstyle', '00000000', 124],
] as const) {
  test(`EXPORT_NAME is answered ${claim}`, async () => {
    await using serve = await start();
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send(flags + option(1, ascii('ro')));
    await client.expect(`${size} ${readOnlyFlags} ${'00'.repeat(zeroes)}`);
    client.send(request(3, 0, 0));
    await client.expect(simple());
  });
}

for (const [claim, bytes] of [
  ['EXPORT_NAME of an export that does not exist', `00000003 ${option(1, ascii('nope'))}`],
  ['client flags that are not known', '00000004'],
  ['any option but EXPORT_NAME without fixed newstyle', `00000000 ${option(7, go(''))}`],
  ['an option with a wrong magic number', '00000003 49484156454f5055 00000003 00000000'],
  ['an option of more than 64 KiB, before its data', '00000003 49484156454f5054 00000007 00010001'],
  ['an option of 4 GiB (CVE-2017-15119)', '00000003 49484156454f5054 00000063 ffffffff'],
  ['EXPORT_NAME of 4 GiB (CVE-2017-15119)', '00000003 49484156454f5054 00000001 ffffffff'],
] as const) {
  test(`the server hangs up at ${claim}`, async () => {
    await using serve = await start();
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send(bytes);
    await client.expectEnd();
  });
}

/** Options that are answered with one error, after which the handshake goes on. */
const refused: readonly (readonly [string, string, number, string])[] = [
  ['an unknown option', option(99, '0102'), 0x80000001, 'Unsupported option 99'],
  ['PEEK_EXPORT', option(4, ''), 0x80000001, 'Unsupported option 4'],
  [
    'EXTENDED_HEADERS with data',
    option(11, '00'),
    0x80000003,
    "option 'extended headers' has unexpected length",
  ],
  ['STARTTLS', option(5, ''), 0x80000002, 'TLS not configured'],
  ['STARTTLS with data', option(5, '00'), 0x80000003, "option 'starttls' has unexpected length"],
  ['LIST with data', option(3, '00'), 0x80000003, "option 'list' has unexpected length"],
  [
    'STRUCTURED_REPLY with data',
    option(8, '00'),
    0x80000003,
    "option 'structured reply' has unexpected length",
  ],
  ['GO of an export that does not exist', option(7, go('nope')), 0x80000006, "export 'nope' not present"],
  [
    'INFO of a name of 256 bytes (CVE-2017-15118)',
    option(6, go('x'.repeat(256))),
    0x80000006,
    `export '${'x'.repeat(80)}...' not present`,
  ],
  [
    'INFO of a name of 4096 bytes (CVE-2017-15118)',
    option(6, go('%'.repeat(4096))),
    0x80000006,
    `export '${'%'.repeat(80)}...' not present`,
  ],
  ['INFO of a name with controls', option(6, go('\u001b[2J')), 0x80000006, "export '\\u{1b}[2J' not present"],
  [
    'SET_META_CONTEXT before structured replies',
    option(10, meta('', 'base:allocation')),
    0x80000003,
    "request option 'set meta context' when structured reply is not negotiated",
  ],
  [
    'LIST_META_CONTEXT of an export that does not exist',
    option(9, meta('nope')),
    0x80000006,
    "export 'nope' not present",
  ],
];
for (const [claim, sent, type, text] of refused) {
  test(`${claim} is refused with a text, and the handshake goes on`, async () => {
    await using serve = await start();
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send(`00000003 ${sent}`);
    const number = hex(sent).readUInt32BE(8);
    await client.expect(reply(number, type, error(text)));
    client.send(option(2, ''));
    await client.expect(reply(2, 1, ''));
    await client.expectEnd();
  });
}

for (const [claim, data] of [
  ['a name longer than the option', `00000005 ${ascii('disk')}0000`],
  ['a name length of 32 bits (CVE-2022-26495, CVE-2022-26496)', `ffffffff ${ascii('disk')} 0000`],
  ['a name of 4097 bytes (CVE-2017-15118)', go('x'.repeat(4097))],
  ['more information requests than sent', go('', '0001')],
  ['nothing', ''],
  ['a name that is not UTF-8', '00000002 c328 0000'],
] as const) {
  test(`INFO and GO with ${claim} are refused as invalid`, async () => {
    await using serve = await start();
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send('00000003');
    for (const number of [6, 7]) {
      client.send(option(number, data));
      assert.deepEqual(await takeReplies(client), [0x80000003]);
    }
  });
}

test('ABORT is acknowledged whatever data it has, and ends the connection', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(2, '010203')}`);
  await client.expect(reply(2, 1, ''));
  await client.expectEnd();
});

test('structured replies are agreed on once', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send('00000003');
  client.send(option(8, ''));
  await client.expect(reply(8, 1, ''));
  client.send(option(8, ''));
  await client.expect(reply(8, 0x80000003, error('structured reply already negotiated')));
});

const base = ascii('base:allocation');
const depth = ascii('qemu:allocation-depth');
for (const [claim, queries, found] of [
  ['no query lists all', [], [base, depth]],
  ['a namespace lists what is in it', ['base:'], [base]],
  ['another namespace lists what is in it', ['qemu:'], [depth]],
  ['a name lists itself', ['qemu:allocation-depth'], [depth]],
  ['several queries list each match once', ['base:', 'base:allocation', 'qemu:'], [base, depth]],
  ['an unknown namespace lists nothing', ['x-other:'], []],
  ['an unknown leaf lists nothing', ['base:other'], []],
  ['a query without colon lists nothing', ['nocolon'], []],
  ['an overlong query lists nothing', [`base:${'x'.repeat(4097)}`], []],
] as const) {
  test(`LIST_META_CONTEXT: ${claim}, with identifier 0`, async () => {
    await using serve = await start();
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send(`00000003 ${option(9, meta('', ...queries))}`);
    for (const name of found) await client.expect(reply(9, 4, `00000000 ${name}`));
    await client.expect(reply(9, 1, ''));
  });
}

test('SET_META_CONTEXT selects full names only, with the identifiers that QEMU gives', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send('00000003');
  client.send(option(8, ''));
  await client.expect(reply(8, 1, ''));
  client.send(option(10, meta('', 'base:', 'qemu:', 'x:y', 'nocolon')));
  await client.expect(reply(10, 1, ''));
  client.send(option(10, meta('', 'qemu:allocation-depth')));
  await client.expect(reply(10, 4, `00000001 ${depth}`) + reply(10, 1, ''));
  client.send(option(10, meta('', 'qemu:allocation-depth', 'base:allocation')));
  await client.expect(reply(10, 4, `00000000 ${base}`));
  await client.expect(reply(10, 4, `00000001 ${depth}`) + reply(10, 1, ''));
});

for (const [claim, after] of [
  ['for another export', option(10, meta('ro', 'base:allocation'))],
  ['with no query', option(10, meta(''))],
  ['that is malformed (CVE-2022-26495)', option(10, 'ffffffff')],
  ['of an export that does not exist', option(10, meta('nope', 'base:allocation'))],
] as const) {
  test(`SET_META_CONTEXT ${claim} voids the selection before it`, async () => {
    await using serve = await start();
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send('00000003');
    client.send(option(8, ''));
    await takeReplies(client);
    client.send(option(10, meta('', 'base:allocation')));
    await takeReplies(client);
    client.send(after);
    await takeReplies(client);
    client.send(option(7, go('')));
    await takeReplies(client);
    client.send(request(7, 0, 4096));
    const header = await client.receive(20);
    assert.equal(header.readUInt16BE(6), 0x8001);
  });
}

test('65 options end the connection, and LIST allows 32 more for each export', async () => {
  await using serve = await start();
  for (const [first, allowed] of [
    [option(8, ''), 64],
    [option(3, ''), 64 + 2 * 32],
  ] as const) {
    await using client = await serve.connect();
    await client.expect(greeting);
    client.send(`00000003 ${first}`);
    await takeReplies(client);
    for (let count = 1; count < allowed; count++) {
      client.send(option(99, ''));
      await takeReplies(client);
    }
    client.send(option(99, ''));
    await client.expectEnd();
  }
});

test('a client that chooses no export in time is cut off', async () => {
  await using serve = await serving({
    exports: [{ name: '', source: disk.device }],
    handshakeTimeoutMs: 50,
  });
  await using silent = await serve.connect();
  await using slow = await serve.connect();
  await using quick = await serve.connected();
  await silent.expect(greeting);
  await slow.expect(greeting);
  slow.send('00000003 4948');
  await silent.expectEnd();
  await slow.expectEnd();
  quick.send(request(3, 0, 0));
  await quick.expect(simple());
});

test('nothing of the disk is touched before an export is chosen', async () => {
  const untouched = testDisk({ slow: true });
  await using serve = await serving({ exports: [{ name: '', device: untouched.device }] });
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(3, '')}`);
  await takeReplies(client);
  client.send(option(6, go('')));
  await takeReplies(client);
  client.send(option(9, meta('')));
  await takeReplies(client);
  assert.deepEqual(untouched.calls, []);
});

test('a handshake is understood however it is cut into pieces', async () => {
  await using serve = await start();
  const bytes = hex(`00000003 ${option(8, '')} ${option(7, go(''))} ${request(0, 0, 4)}`);
  await using client = await serve.connect();
  client.socket.setNoDelay(true);
  for (const byte of bytes) {
    client.send(Buffer.of(byte));
    await new Promise(setImmediate);
  }
  await client.expect(greeting + reply(8, 1, ''));
  await client.expect(reply(7, 3, info.description) + reply(7, 3, info.blockSize));
  await client.expect(reply(7, 3, info.exportWithDf) + reply(7, 1, ''));
  assert.equal((await client.receive(4)).toString('hex'), '668e33ef');
});
