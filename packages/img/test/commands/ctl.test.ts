/** `ctl` against a server of this test's own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anything, command, listenQmp, type QmpServer, refusal } from '@strata/qmp';
import { temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

interface Listening extends AsyncDisposable {
  readonly server: QmpServer;
  readonly path: string;
}

async function listening(): Promise<Listening> {
  const folder = await temporaryFolder();
  const path = folder.file('qmp');
  const commands = [
    command('echo', { value: anything }, ({ value }) => value),
    command('fail', {}, () => Promise.reject(refusal('it cannot be done'))),
  ];
  const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: 'test' };
  const server = await listenQmp({ path, version, commands });
  const dispose = async (): Promise<void> => {
    await server[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  };
  return { server, path, [Symbol.asyncDispose]: dispose };
}

async function ctl(...words: readonly string[]): Promise<readonly [number, string, string]> {
  const terminal = recordingTerminal();
  const status = await main(['ctl', ...words], terminal);
  return [status, terminal.stdout(), terminal.stderr()];
}

test('the reply is printed, and a refusal is the sentence of the server', async () => {
  await using ours = await listening();
  assert.deepEqual(await ctl(ours.path, 'echo', 'value.a=1'), [0, '{\n    "a": 1\n}\n', '']);
  assert.deepEqual(await ctl(`unix:${ours.path}`, 'echo', '{"value": "x"}'), [0, '"x"\n', '']);
  assert.deepEqual(await ctl(ours.path, 'fail'), [1, '', 'img: it cannot be done\n']);
  assert.deepEqual(await ctl(ours.path, 'other'), [1, '', 'img: The command other has not been found\n']);
});

test('events are printed as they come, until the server ends', async () => {
  await using ours = await listening();
  const terminal = recordingTerminal();
  let answered: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    answered = resolve;
  });
  const printed: string[] = [];
  const ended = main(['ctl', ours.path, '--events', 'echo', 'value=1'], {
    ...terminal,
    print: (text) => {
      printed.push(text);
      answered();
    },
  });
  await ready;
  ours.server.emit('ONE', { id: 'e' });
  ours.server.emit('TWO');
  await ours.server[Symbol.asyncDispose]();
  assert.equal(await ended, 0);
  const [reply, ...events] = printed;
  assert.equal(reply, '1\n');
  const told = events.map((line) => JSON.parse(line) as { event: string; data?: unknown });
  assert.deepEqual(
    told.map(({ event, data }) => [event, data]),
    [
      ['ONE', { id: 'e' }],
      ['TWO', undefined],
    ],
  );
});

test('lines that ask for nothing, or for what is not there, are refused', async () => {
  await using folder = await temporaryFolder();
  const missing = folder.file('none');
  assert.deepEqual((await ctl())[0], 1);
  assert.match((await ctl())[2], /Expecting a socket/);
  assert.match((await ctl(missing))[2], /Expecting a command/);
  assert.match((await ctl(missing, 'x', 'y'))[2], /Expected '=' after parameter 'y'/);
  assert.match((await ctl('tcp:localhost:99999', 'x'))[2], /Invalid port '99999'/);
  assert.deepEqual(await ctl(missing, 'x'), [
    1,
    '',
    `img: Could not connect to '${missing}': No such file or directory\n`,
  ]);
});
