/**
 * What the specification says a server MUST and SHOULD do, and a hostile or careless client can try it on: a row each,
 * with the section it stands in. What needs more than an exchange of bytes has its own tests: TLS in
 * tls/accept.test.ts, extended headers in extended.test.ts, order and durability in session.test.ts.
 *
 * Spec: proto.md
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ascii, type RawClient, u32 } from './raw-client.ts';
import {
  chunk,
  greeting,
  option,
  reply,
  request,
  type Serving,
  serving,
  simple,
  takeReplies,
} from './serving.ts';
import { testDisk } from './test-disk.ts';

const MiB = 1024 * 1024;
const size = 4 * MiB;
const u16 = (value: number): string => value.toString(16).padStart(4, '0');
const u64 = (value: number): string => value.toString(16).padStart(16, '0');
const go = (name: string, ...infos: readonly number[]): string =>
  `${u32(Buffer.byteLength(name)) + ascii(name)} ${u16(infos.length)} ${infos.map(u16).join('')}`;
const query = (name: string, ...contexts: readonly string[]): string =>
  u32(name.length) +
  ascii(name) +
  u32(contexts.length) +
  contexts.map((context) => u32(context.length) + ascii(context)).join('');
const base = ascii('base:allocation');
const depth = ascii('qemu:allocation-depth');

const start = (): Promise<Serving> =>
  serving({
    exports: [
      { name: '', device: testDisk({ size }).device, description: 'a disk' },
      { name: 'ro', source: testDisk({ size }).device },
      {
        name: 'blocks',
        device: testDisk({ size }).device,
        blockSizes: { minimum: 4096, maximumPayload: 65_536 },
      },
    ],
  });

/** A client that has sent its flags. */
async function haggling(serve: Serving, flags = '00000003'): Promise<RawClient> {
  const client = await serve.connect();
  await client.expect(greeting);
  client.send(flags);
  return client;
}

/** The types of all replies to each option. */
async function answers(
  client: RawClient,
  ...options: readonly string[]
): Promise<readonly (readonly number[])[]> {
  const types: (readonly number[])[] = [];
  for (const each of options) {
    client.send(each);
    types.push(await takeReplies(client));
  }
  return types;
}

/** The data of the replies to one option that are no acknowledgement. */
async function told(client: RawClient, sent: string): Promise<readonly string[]> {
  client.send(sent);
  const found: string[] = [];
  for (;;) {
    const header = await client.receive(20);
    const data = await client.receive(header.readUInt32BE(16));
    if (header.readUInt32BE(12) === 1) return found;
    found.push(data.toString('hex'));
  }
}

const [ack, server, info, metaContext] = [1, 2, 3, 4];
const [unsupported, policy, invalid, unknown] = [0x80000001, 0x80000002, 0x80000003, 0x80000006];

/** Options that are answered by replies of these types, in one session. */
const options: readonly (readonly [
  section: string,
  claim: string,
  readonly (readonly [string, readonly number[]])[],
])[] = [
  [
    'Fixed newstyle negotiation',
    'an option that is not known is refused, and the next one is understood',
    [
      [option(4242, '00112233'), [unsupported]],
      [option(3, ''), [server, server, server, ack]],
    ],
  ],
  ['NBD_OPT_PEEK_EXPORT', 'the withdrawn option is not known', [[option(4, ''), [unsupported]]]],
  [
    'NBD_OPT_LIST',
    'every export is named, then there is an end',
    [[option(3, ''), [server, server, server, ack]]],
  ],
  ['NBD_OPT_LIST', 'data is refused', [[option(3, '00'), [invalid]]]],
  [
    'NOTLS mode',
    'STARTTLS is refused, and nothing ever requires TLS',
    [
      [option(5, ''), [policy]],
      [option(7, go('nope')), [unknown]],
    ],
  ],
  [
    'NBD_OPT_INFO',
    'an unknown export is refused, a known one told',
    [
      [option(6, go('nope')), [unknown]],
      [option(6, go('ro')), [info, info, ack]],
    ],
  ],
  [
    'NBD_OPT_INFO',
    'a name longer than its option is refused',
    [[option(6, `${u32(100)} 61 0000`), [invalid]]],
  ],
  [
    'NBD_OPT_INFO',
    'more information requests than were announced are refused',
    [[option(6, `${u32(0)} 0001 0000 0003`), [invalid]]],
  ],
  [
    'NBD_OPT_GO',
    'an information request that is not known is ignored',
    [[option(6, go('', 0x1234)), [info, info, info, ack]]],
  ],
  ['Conventions', 'a string with a NUL is refused', [[option(6, `${u32(2)} 6100 0000`), [invalid]]]],
  ['Conventions', 'a string that is not UTF-8 is refused', [[option(6, `${u32(2)} c328 0000`), [invalid]]]],
  ['Conventions', 'a string of 4097 bytes is refused', [[option(6, go('x'.repeat(4097))), [invalid]]]],
  ['Conventions', 'a string of 4096 bytes is a name', [[option(6, go('x'.repeat(4096))), [unknown]]]],
  [
    'NBD_OPT_STRUCTURED_REPLY',
    'data is refused, and so is asking twice',
    [
      [option(8, '00'), [invalid]],
      [option(8, ''), [ack]],
      [option(8, ''), [invalid]],
    ],
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'it needs structured replies',
    [[option(10, query('', 'base:allocation')), [invalid]]],
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'a wildcard selects nothing',
    [
      [option(8, ''), [ack]],
      [option(10, query('', 'base:')), [ack]],
      [option(10, query('', 'base:allocation')), [metaContext, ack]],
    ],
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'an unknown export is refused',
    [
      [option(8, ''), [ack]],
      [option(10, query('nope', 'base:allocation')), [unknown]],
    ],
  ],
  [
    'NBD_OPT_SET_META_CONTEXT',
    'queries that do not fit the option are refused',
    [
      [option(8, ''), [ack]],
      [option(10, `${u32(0)}${u32(2)}${u32(1)}61`), [invalid]],
    ],
  ],
  [
    'NBD_OPT_LIST_META_CONTEXT',
    'no query lists everything, a namespace its contexts, an unknown one nothing',
    [
      [option(8, ''), [ack]],
      [option(9, query('')), [metaContext, metaContext, ack]],
      [option(9, query('', 'base:')), [metaContext, ack]],
      [option(9, query('', 'qemu:', 'base:allocation')), [metaContext, metaContext, ack]],
      [option(9, query('', 'x-none:', 'nocolon')), [ack]],
    ],
  ],
];

for (const [section, claim, exchanges] of options) {
  test(`"${section}": ${claim}`, async () => {
    await using serve = await start();
    await using client = await haggling(serve);
    for (const [sent, types] of exchanges) assert.deepEqual(await answers(client, sent), [types]);
  });
}

/** What ends the connection without a word. */
const endings: readonly (readonly [section: string, claim: string, flags: string, sent: string])[] = [
  ['Client flags', 'an unknown flag ends the connection', '00000004', ''],
  ['Client flags', 'a flag of the upper half ends the connection', '80000003', ''],
  [
    'Newstyle negotiation',
    'a wrong magic number ends the connection',
    '00000003',
    '49484156454f5055 00000003 00000000',
  ],
  ['NBD_OPT_EXPORT_NAME', 'an unknown export ends the connection', '00000003', option(1, ascii('nope'))],
  ['Newstyle negotiation', 'a client that is not fixed may send EXPORT_NAME only', '00000000', option(3, '')],
];

for (const [section, claim, flags, sent] of endings) {
  test(`"${section}": ${claim}`, async () => {
    await using serve = await start();
    await using client = await haggling(serve, flags);
    client.send(sent);
    await client.expectEnd();
  });
}

test('"NBD_OPT_ABORT": it is acknowledged, also with data, and the connection ends', async () => {
  await using serve = await start();
  await using client = await haggling(serve);
  client.send(option(2, '6279 65'));
  await client.expect(reply(2, 1, ''));
  await client.expectEnd();
});

test('"NBD_OPT_EXPORT_NAME": 124 zeros follow unless they were declined', async () => {
  await using serve = await start();
  for (const [flags, zeros] of [
    ['00000001', 124],
    ['00000003', 0],
  ] as const) {
    await using client = await haggling(serve, flags);
    client.send(option(1, ''));
    await client.expect(`${u64(size)} 0d6d ${'00'.repeat(zeros)}`);
    client.send(request(3, 0, 0));
    await client.expect(simple());
  }
});

test('"NBD_INFO_*": size and flags always, the name if asked for, the description if there is one', async () => {
  await using serve = await start();
  await using client = await haggling(serve);
  const sizes = `0003 ${u32(1)} ${u32(4096)} ${u32(32 * MiB)}`;
  const strip = (text: string): string => text.replaceAll(' ', '');
  assert.deepEqual(await told(client, option(6, go('', 1, 3))), [
    `0001${ascii('')}`,
    `0002${ascii('a disk')}`,
    strip(sizes),
    strip(`0000 ${u64(size)} 0d6d`),
  ]);
  assert.deepEqual(await told(client, option(6, go('ro'))), [strip(sizes), strip(`0000 ${u64(size)} 050f`)]);
});

test('"NBD_REP_META_CONTEXT": selected contexts have identifiers of their own, listed ones none', async () => {
  await using serve = await start();
  await using client = await haggling(serve);
  await answers(client, option(8, ''));
  assert.deepEqual(await told(client, option(9, query(''))), [u32(0) + base, u32(0) + depth]);
  const both = option(10, query('', 'base:allocation', 'qemu:allocation-depth'));
  assert.deepEqual(await told(client, both), [u32(0) + base, u32(1) + depth]);
});

test('"NBD_OPT_SET_META_CONTEXT": a selection for another export, or one that failed since, is void', async () => {
  await using serve = await start();
  for (const last of [
    option(10, query('ro', 'base:allocation')),
    option(10, query('nope', 'base:allocation')),
  ]) {
    await using client = await haggling(serve);
    await answers(client, option(8, ''), option(10, query('', 'base:allocation')), last, option(7, go('')));
    client.send(request(7, 0, 4096));
    const header = await client.receive(20);
    assert.equal(header.readUInt16BE(6), 0x8001);
  }
});

test('"Size constraints": sizes bind those who asked for them, and others may do as they like', async () => {
  await using serve = await start();
  for (const [infos, errnos] of [
    [[3], [22, 22, 75, 0]],
    [[], [0, 0, 0, 0]],
  ] as const) {
    await using client = await haggling(serve);
    const sizes = (await told(client, option(7, go('blocks', ...infos)))).find((data) =>
      data.startsWith('0003'),
    );
    const expected = infos.length > 0 ? [4096, 4096, 65_536] : [1, 4096, 32 * MiB];
    assert.equal(sizes, `0003${expected.map(u32).join('')}`);
    const sent = [request(0, 1, 4096), request(4, 0, 100), request(0, 0, 131_072), request(6, 4096, 2 * MiB)];
    for (const [index, each] of sent.entries()) {
      client.send(each);
      await client.expect(simple(errnos[index]));
      if (errnos[index] === 0 && index % 2 === 0) await client.receive(index === 0 ? 4096 : 131_072);
    }
  }
});

test('"NBD_OPT_INFO": sizes are told to those who do not ask, too', async () => {
  await using serve = await start();
  await using client = await haggling(serve);
  const sizes = (await told(client, option(6, go('blocks')))).find((data) => data.startsWith('0003'));
  assert.equal(sizes, `0003${[4096, 4096, 65_536].map(u32).join('')}`);
});

/** Requests with structured replies and both contexts, and what they are answered: a number, or a chunk. */
const requests: readonly (readonly [
  section: string,
  claim: string,
  name: string,
  sent: string,
  errno: number,
])[] = [
  ['NBD_CMD_READ', 'a range past the end is EINVAL', '', request(0, size, 1), 22],
  ['NBD_CMD_WRITE', 'a range past the end is ENOSPC', '', `${request(1, size, 1)} 00`, 28],
  ['NBD_CMD_WRITE', 'a read-only export is EPERM', 'ro', `${request(1, 0, 1)} 00`, 1],
  ['NBD_CMD_TRIM', 'a range past the end is EINVAL', '', request(4, size, 1), 22],
  ['NBD_CMD_TRIM', 'a read-only export is EPERM', 'ro', request(4, 0, 1), 1],
  ['NBD_CMD_CACHE', 'a range past the end is EINVAL', '', request(5, size, 1), 22],
  ['NBD_CMD_WRITE_ZEROES', 'a range past the end is ENOSPC', '', request(6, size, 1), 28],
  ['NBD_CMD_WRITE_ZEROES', 'a read-only export is EPERM', 'ro', request(6, 0, 1), 1],
  ['NBD_CMD_BLOCK_STATUS', 'a range past the end is EINVAL', '', request(7, size, 1), 22],
  ['NBD_CMD_FLUSH', 'a range is EINVAL', '', request(3, 4096, 4096), 22],
  ['Request types', 'an unknown command is EINVAL', '', request(8, 0, 0), 22],
  ['Command flags', 'an unknown flag is EINVAL', '', request(0, 0, 1, 0x4000), 22],
  ['Command flags', 'PAYLOAD_LEN without extended headers is EINVAL', '', request(0, 0, 1, 0x20), 22],
  ['Command flags', 'NO_HOLE of anything but WRITE_ZEROES is EINVAL', '', request(4, 0, 1, 2), 22],
  ['Command flags', 'DF of anything but READ is EINVAL', '', request(5, 0, 1, 4), 22],
  ['Command flags', 'REQ_ONE of anything but BLOCK_STATUS is EINVAL', '', request(0, 0, 1, 8), 22],
];

for (const [section, claim, name, sent, errno] of requests) {
  test(`"${section}": ${claim}, told in a chunk with a text, and the next request is served`, async () => {
    await using serve = await start();
    await using client = await haggling(serve);
    const contexts = option(10, query(name, 'base:allocation', 'qemu:allocation-depth'));
    await answers(client, option(8, ''), contexts, option(7, go(name)));
    client.send(sent);
    const header = await client.receive(20);
    const payload = await client.receive(header.readUInt32BE(16));
    assert.deepEqual([header.readUInt16BE(4), header.readUInt16BE(6) & 0x8000], [1, 0x8000]);
    assert.equal(payload.readUInt32BE(0), errno);
    assert.ok(payload.readUInt16BE(4) > 0, 'there is a text');
    client.send(request(3, 0, 0));
    await client.expect(simple());
  });
}

test('"NBD_CMD_FLAG_REQ_ONE": one extent a context, no longer than was asked for', async () => {
  await using serve = await start();
  await using client = await haggling(serve);
  const contexts = option(10, query('', 'base:allocation', 'qemu:allocation-depth'));
  await answers(client, option(8, ''), contexts, option(7, go('')));
  client.send(request(7, 100, 1000, 8));
  await client.expect(chunk(5, u32(0) + u32(1000) + u32(3), 0) + chunk(5, u32(1) + u32(1000) + u32(0)));
});

test('"NBD_CMD_FLAG_DF": a read of 64 KiB over data and zeros comes in one piece', async () => {
  await using serve = await start();
  await using client = await haggling(serve);
  await answers(client, option(8, ''), option(7, go('')));
  client.send(`${request(1, 4096, 2)} abcd`);
  await client.expect(simple());
  client.send(request(0, 0, 65_536, 4));
  const header = await client.receive(20);
  assert.deepEqual([header.readUInt16BE(4), header.readUInt16BE(6), header.readUInt32BE(16)], [1, 1, 65_544]);
});

test('"Terminating the transmission phase": DISC is not answered, what was asked before it is', async () => {
  await using serve = await start();
  await using client = await serve.connected();
  client.send(request(3, 0, 0) + request(2, 0, 0) + request(3, 0, 0));
  await client.expect(simple());
  await client.expectEnd();
});
