import assert from 'node:assert/strict';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openNbd } from '@strata/nbd';
import {
  type Finished,
  nbdinfo,
  nbdkit,
  qemuImg,
  qemuIo,
  qemuNbd,
  requires,
  run,
  runOk,
  temporaryFolder,
} from '@strata/testkit';
import { serveImg } from '../run-img.ts';

const program = fileURLToPath(new URL('../../src/bin.js', import.meta.url));
const img = (...words: readonly string[]): Promise<Finished> => run(process.execPath, [program, ...words]);

/** A raw image of a mebibyte whose bytes tell where they stand. */
function countedImage(path: string): Buffer {
  const bytes = Buffer.alloc(1 << 20);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(at + 1, at);
  writeFileSync(path, bytes);
  return bytes;
}

async function refusal(...words: readonly string[]): Promise<string> {
  const { status, stderr, stdout } = await img('serve', ...words);
  assert.deepEqual([status, stdout], [1, '']);
  return stderr;
}

test(
  '-o exports the rest of a disk, as qemu-nbd does',
  requires('nbdcopy', 'nbdinfo', 'qemu-nbd'),
  async () => {
    await using folder = await temporaryFolder();
    const image = folder.file('disk.raw');
    const bytes = countedImage(image);
    await using server = await serveImg('-k', folder.file('s'), '-f', 'raw', '-o', '4k', image);
    const [uri = ''] = server.uris;
    await runOk('nbdcopy', [uri, folder.file('out')]);
    assert.ok(readFileSync(folder.file('out')).equals(bytes.subarray(4096)));
    await qemuIo(uri, ['write -P 9 0 512'], 'raw');
    assert.equal(readFileSync(image)[4096], 9);
    await using odd = await serveImg('-k', folder.file('o'), '-f', 'raw', '-o', '777', '-r', image);
    await runOk('nbdcopy', [odd.uris[0] ?? '', folder.file('rest')]);
    assert.deepEqual(readFileSync(folder.file('rest')), readFileSync(image).subarray(777));
    assert.match(
      await refusal('-k', folder.file('n'), '-f', 'raw', '-o', '2000000', image),
      /^img: Offset \(2000000\) cannot be greater than size of the containing file \(1048576\)\n$/,
    );
  },
);

test('NAME=FILE names an export, and a file with = in its name has a path', requires('nbdinfo'), async () => {
  await using folder = await temporaryFolder();
  countedImage(folder.file('a.raw'));
  countedImage(folder.file('b=c.raw'));
  const files = [`first=${folder.file('a.raw')}`, folder.file('b=c.raw')];
  await using server = await serveImg('-k', folder.file('s'), '-r', '-f', 'raw', ...files);
  const socket = `?socket=${folder.file('s')}`;
  assert.deepEqual(server.uris, [`nbd+unix:///first${socket}`, `nbd+unix:///b%3Dc.raw${socket}`]);
  for (const uri of server.uris) assert.equal(await runOk('nbdinfo', ['--size', uri]), '1048576\n');
});

test(
  '-s keeps what is written out of the image, and leaves no file behind',
  requires('qemu-io', 'qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const [base, image, raw] = ['base.qcow2', 'disk.qcow2', 'odd.raw'].map((name) => folder.file(name)) as [
      string,
      string,
      string,
    ];
    await qemuImg.create(base, '1M');
    await qemuIo(base, ['write -P 1 0 64k']);
    await qemuImg.create(image, '1M', { backing: { name: base, format: 'qcow2' } });
    await qemuIo(image, ['write -P 2 256k 64k']);
    countedImage(raw);
    truncateSync(raw, 1_000_001);
    const before = [base, image, raw].map((path) => readFileSync(path));
    await using server = await serveImg('-k', folder.file('s'), '-s', '-f', 'qcow2', image);
    await using odd = await serveImg('-k', folder.file('o'), '-s', '-f', 'raw', raw);
    await qemuIo(
      server.uris[0] ?? '',
      [
        'read -P 1 0 64k',
        'write -P 7 4k 4k',
        'read -P 1 0 4k',
        'read -P 7 4k 4k',
        'read -P 1 8k 56k',
        'read -P 2 256k 64k',
        'write -z 256k 4k',
        'read -P 0 256k 4k',
        'discard 0 64k',
        'flush',
      ],
      'raw',
    );
    await using client = await openNbd(odd.uris[0] ?? '');
    assert.equal(client.info.size, 1_000_001);
    await client.device?.write(Buffer.from([1, 2, 3]), 999_998);
    await client.device?.flush();
    const tail = Buffer.alloc(4);
    await client.source.read(tail, 999_997);
    assert.deepEqual([...tail.subarray(1)], [1, 2, 3]);
    for (const each of [server, odd]) {
      each.process.kill('SIGTERM');
      assert.equal((await each.ended()).status, 0);
    }
    assert.deepEqual(
      [base, image, raw].map((path) => readFileSync(path)),
      before,
    );
  },
);

test(
  '-l exports an internal snapshot for reading, as qemu-nbd does',
  requires('qemu-io', 'qemu-img', 'nbdinfo'),
  async () => {
    await using folder = await temporaryFolder();
    const image = folder.file('disk.qcow2');
    await qemuImg.create(image, '1M');
    await qemuIo(image, ['write -P 1 0 64k']);
    await qemuImg.ok('snapshot', '-c', 'before', image);
    await qemuIo(image, ['write -P 2 0 64k']);
    for (const choice of ['before', 'snapshot.name=before', 'snapshot.id=1']) {
      await using server = await serveImg('-k', folder.file('s'), '-l', choice, image);
      await runOk('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 1 0 64k', server.uris[0] ?? '']);
      assert.equal((await run('nbdinfo', ['--is', 'read-only', server.uris[0] ?? ''])).status, 0);
    }
    assert.match(
      await refusal('-k', folder.file('s'), '-l', 'after', image),
      /Failed to load snapshot: Can't find snapshot/,
    );
  },
);

test(
  '-L and info --list tell of any server what qemu-nbd -L and nbdinfo tell',
  requires('qemu-nbd', 'nbdinfo', 'nbdkit'),
  async () => {
    await using folder = await temporaryFolder();
    const [image, second, odd] = ['disk.qcow2', 'second.qcow2', 'odd.raw'].map((name) =>
      folder.file(name),
    ) as [string, string, string];
    await qemuImg.create(second, '4M');
    await qemuImg.create(image, '3M');
    writeFileSync(odd, Buffer.alloc(100_352, 1));
    await using _qemu = await qemuNbd(image, folder.file('qemu'), [
      '-A',
      '-x',
      'a name',
      '-D',
      'a description',
    ]);
    await using _kit = await nbdkit(folder.file('kit'), ['memory', '5G']);
    await using _many = await nbdkit(folder.file('many'), ['file', `dir=${folder.path}`]);
    await using _ours = await serveImg(
      '-k',
      folder.file('ours'),
      '-r',
      '-D',
      'two',
      `é=${second}`,
      `disk=${odd}`,
    );
    for (const name of ['qemu', 'kit', 'many', 'ours']) {
      const uri = `nbd+unix:///?socket=${folder.file(name)}`;
      const theirs = await runOk('qemu-nbd', ['-L', '-k', folder.file(name)]);
      assert.equal((await img('serve', '-L', '-k', folder.file(name))).stdout, theirs);
      const ours = await img('info', '--list', uri);
      assert.deepEqual(ours, { status: 0, stdout: theirs, stderr: '' });
      const json = JSON.parse((await img('info', '--list', '--output=json', uri)).stdout) as Record<
        string,
        unknown
      >;
      assert.deepEqual(json, await nbdinfo.json(uri, '--list', '--no-content'));
    }
    const nobody = await img('serve', '-L', '-k', folder.file('nobody'));
    const theirs = await run('qemu-nbd', ['-L', '-k', folder.file('nobody')]);
    assert.deepEqual(nobody, { ...theirs, stderr: theirs.stderr.replace('qemu-nbd', 'img') });
  },
);

test(
  '--once ends when the last client has left, and not when one only looks',
  requires('nbdinfo', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const image = folder.file('disk.qcow2');
    await qemuImg.create(image, '1M');
    await using server = await serveImg('-k', folder.file('s'), '--once', image);
    const [uri = ''] = server.uris;
    await img('info', '--list', uri);
    await using first = await openNbd(uri);
    {
      await using second = await openNbd(uri);
      assert.equal(second.info.size, 1 << 20);
    }
    await first.device?.write(Buffer.alloc(512, 3), 0);
    await first[Symbol.asyncDispose]();
    assert.equal((await server.ended()).status, 0);
    await qemuIo(image, ['read -P 3 0 512']);
  },
);

test(
  '--fork ends when clients may connect, and the pid file leads to the server',
  requires('qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const [image, pidFile, log] = [folder.file('disk.qcow2'), folder.file('pid'), folder.file('log')];
    await qemuImg.create(image, '1M');
    const { status, stdout, stderr } = await img(
      'serve',
      '--fork',
      '--pid-file',
      pidFile,
      '--log-file',
      log,
      '-k',
      folder.file('s'),
      image,
    );
    assert.deepEqual([status, stdout, stderr], [0, `nbd+unix:///?socket=${folder.file('s')}\n`, '']);
    await qemuIo(stdout.trim(), ['write -P 4 0 64k'], 'raw');
    const pid = Number(readFileSync(pidFile, 'utf8'));
    process.kill(pid, 'SIGTERM');
    while (existsSync(`/proc/${pid}`) && !isZombie(pid))
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual([existsSync(pidFile), existsSync(folder.file('s'))], [false, false]);
    await qemuIo(image, ['read -P 4 0 64k']);
    assert.match(readFileSync(log, 'utf8'), /entered client=1 export=\n[\s\S]*stopped\n$/);
  },
);

test('--fork tells what keeps the server from starting', async () => {
  await using folder = await temporaryFolder();
  assert.match(
    await refusal('--fork', '-k', folder.file('s'), folder.file('none')),
    /No such file or directory/,
  );
  assert.match(
    await refusal('--fork', '--pid-file', folder.file('no/pid'), '-k', folder.file('s'), '-r', program),
    /Could not create '.*': No such file or directory/,
  );
});

/** A process that nobody waits for stays behind where the first process of the machine does not. */
function isZombie(pid: number): boolean {
  return /^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
}

test('a socket may be handed over, as a service manager does', requires('nbdinfo', 'nbdcopy'), async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  const bytes = countedImage(image);
  const words = ['[', process.execPath, program, 'serve', '-f', 'raw', image, ']'];
  assert.equal(await runOk('nbdinfo', ['--size', '--', ...words]), `${bytes.length}\n`);
  await runOk('nbdcopy', ['--', ...words, folder.file('out')]);
  assert.ok(readFileSync(folder.file('out')).equals(bytes));
});

test('a command runs with the variables of the server, and its exit status is passed on', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await img('create', '-q', '-f', 'qcow2', image, '1M');
  const script = 'echo "$uri|$unixsocket|$port|$exportname|$uris"; stat -c %a "$unixsocket"; exit 7';
  const { status, stdout, stderr } = await img(
    'serve',
    image,
    `two=${image}`,
    '-r',
    '--',
    'sh',
    '-c',
    script,
  );
  assert.deepEqual([status, stderr], [7, '']);
  const [line = '', mode] = stdout.split('\n');
  const [uri, socket = '', port, name, uris] = line.split('|');
  assert.equal(uri, `nbd+unix:///disk.qcow2?socket=${socket}`);
  assert.deepEqual(
    [port, name, mode, uris],
    ['', 'disk.qcow2', '600', `${uri} nbd+unix:///two?socket=${socket}`],
  );
  assert.equal(existsSync(socket), false);
  const tcp = await img('serve', '-r', '-p', '0', image, '--', 'sh', '-c', 'echo $port; kill -9 $$');
  assert.equal(tcp.status, 137);
  assert.match(tcp.stdout, /^\d+\n$/);
  const missing = await img('serve', '-r', image, '--', folder.file('none'));
  assert.deepEqual([missing.status, missing.stdout], [127, '']);
  assert.match(missing.stderr, /Could not run '.*none': No such file or directory/);
});

test('what a command wrote is in the image when the server has ended', requires('qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await qemuImg.create(image, '1M');
  const command = ['sh', '-c', 'qemu-io -f raw -c "write -P 5 0 64k" "$uri"'];
  assert.equal((await img('serve', image, '--', ...command)).status, 0);
  await qemuIo(image, ['read -P 5 0 64k']);
  assert.equal((await qemuImg.check(image)).status, 0);
});

test('a signal to stop reaches the command, and its end ends the server', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await img('create', '-q', '-f', 'qcow2', image, '1M');
  const command = ['sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.02; done'];
  const server = await serveImg('-r', image, '--', ...command);
  // The descriptor tells of the server; the command may still be starting.
  await new Promise((resolve) => setTimeout(resolve, 200));
  server.process.kill('SIGTERM');
  const { status } = await server.ended();
  assert.ok(status === 9 || status === 143, String(status));
});

test('the log is a JSON object a line, of who came and what was asked', requires('qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await qemuImg.create(image, '1M');
  const server = await serveImg('-p', '0', '-x', 'a\u001bb', '--log-format=json', image);
  await qemuIo(server.uris[0] ?? '', ['write -P 5 0 64k', 'read 0 4k', 'flush'], 'raw');
  server.process.kill('SIGTERM');
  const { status, stderr } = await server.ended();
  assert.equal(status, 0);
  const events = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const names = events.map(({ event }) => event);
  assert.deepEqual([names[0], names.at(-1)], ['listening', 'stopped']);
  for (const name of ['connected', 'entered', 'stopping']) assert.ok(names.includes(name), name);
  const left = events.find(({ event, export: name }) => event === 'left' && name !== undefined);
  assert.deepEqual([left?.['export'], left?.['written'], left?.['failed']], ['a\u001bb', 65_536, 0]);
  assert.match(String(left?.['peer']), /^127\.0\.0\.1:\d+$/);
});

test('-v logs for people, without what a terminal would obey', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await img('create', '-q', '-f', 'qcow2', image, '1M');
  const server = await serveImg('-k', folder.file('s'), '-v', '-x', 'a\u001bb', image);
  await (await openNbd(server.uris[0] ?? ''))[Symbol.asyncDispose]();
  server.process.kill('SIGTERM');
  const { stderr } = await server.ended();
  assert.match(stderr, /^img: listening .*\nimg: connected client=1\nimg: entered client=1 export=a\\x1bb\n/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  assert.doesNotMatch(stderr, /[\x00-\x09\x0b-\x1f]/);
});

async function fetched(url: string): Promise<{ readonly status: number | undefined; readonly text: string }> {
  return await new Promise((resolve, reject) => {
    get(url, { agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode, text }));
    }).on('error', reject);
  });
}

test('--metrics tells Prometheus what was asked of each export', requires('qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const [image, log] = [folder.file('disk.qcow2'), folder.file('log')];
  await qemuImg.create(image, '1M');
  const log2 = ['--log-file', log, '--log-format', 'json'];
  await using server = await serveImg('-k', folder.file('s'), '--metrics', '0', ...log2, '-x', 'a"b', image);
  await qemuIo(server.uris[0] ?? '', ['write -P 5 0 64k', 'read 0 4k', 'write 0 512'], 'raw');
  const { metrics } = JSON.parse(readFileSync(log, 'utf8').split('\n')[0] ?? '') as { metrics: string };
  const { status, text } = await fetched(metrics);
  assert.equal(status, 200);
  for (const line of [
    'strata_nbd_connections 0',
    'strata_nbd_clients_total 1',
    'strata_nbd_requests_total{export="a\\"b",command="write"} 2',
    'strata_nbd_written_bytes_total{export="a\\"b"} 66048',
    'strata_nbd_read_bytes_total{export="a\\"b"} 4096',
    'strata_nbd_failed_requests_total{export="a\\"b"} 0',
  ]) {
    assert.ok(text.includes(`\n${line}\n`), `${line}\n${text.slice(0, 4000)}`);
  }
  assert.match(text, /^process_open_fds \d+/m);
  assert.equal((await fetched(metrics.replace('/metrics', '/'))).status, 404);
});

test('disks and figures are not offered to other machines in the clear', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  countedImage(image);
  assert.match(await refusal('-b', '0.0.0.0', '-p', '0', '-r', image), /Without TLS, .*--insecure/);
  assert.match(await refusal('-k', folder.file('s'), '--metrics', '0.0.0.0:0', '-r', image), /--insecure/);
  await using server = await serveImg('-b', '0.0.0.0', '-p', '0', '--insecure', '-r', image);
  assert.match(server.uris[0] ?? '', /^nbd:\/\/0\.0\.0\.0:\d+\//);
});

test('the socket is 0600 whatever the umask is', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  countedImage(image);
  const words = [
    program,
    'serve',
    '-r',
    '-k',
    folder.file('s'),
    image,
    '--',
    'stat',
    '-c',
    '%a',
    folder.file('s'),
  ];
  const script = `umask 0; exec "$0" "$@"`;
  assert.deepEqual(await run('sh', ['-c', script, process.execPath, ...words]), {
    status: 0,
    stdout: '600\n',
    stderr: '',
  });
});

test('SIGTERM under load: every write that was answered is in the image, and the server ends with 0', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await img('create', '-q', '-f', 'qcow2', image, '64M');
  const server = await serveImg('-k', folder.file('s'), image);
  const clients = await Promise.all(Array.from({ length: 4 }, () => openNbd(server.uris[0] ?? '')));
  const answered: { readonly at: number; readonly value: number }[] = [];
  const load = clients.map(async ({ device }, client) => {
    const writes = Array.from({ length: 256 }, (_, index) => {
      const at = (client * 256 + index) * 65_536;
      const value = 1 + ((client * 256 + index) % 255);
      return device?.write(Buffer.alloc(4096, value), at).then(() => {
        answered.push({ at, value });
        if (answered.length === 100) server.process.kill('SIGTERM');
      });
    });
    return await Promise.allSettled(writes);
  });
  await Promise.all(load);
  const { status, stderr } = await server.ended();
  assert.deepEqual([status, stderr], [0, '']);
  assert.ok(answered.length >= 100);
  const raw = folder.file('disk.raw');
  await img('convert', '-f', 'qcow2', '-O', 'raw', image, raw);
  const bytes = readFileSync(raw);
  for (const { at, value } of answered) {
    assert.ok(
      bytes.subarray(at, at + 4096).every((byte) => byte === value),
      `write at ${at}`,
    );
  }
  assert.equal((await img('check', image)).status, 0);
});
