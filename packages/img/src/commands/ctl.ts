/** `ctl`: gives commands to a running server, ours or QEMU's, over its QMP socket. */
import { isDiskError } from '@strata/block';
import { connectQmp, type QmpAddress, type QmpClient, QmpError } from '@strata/qmp';
import { outputRow, wantsJson } from '../arguments.ts';
import { command } from '../command.ts';
import { commandArguments } from '../control/typed-arguments.ts';
import { waitForJob } from '../control/wait-job.ts';
import type { OptionTable } from '../options.ts';
import { replyJson, replyText } from '../print/replies.ts';
import { CommandError, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  output: { ...outputRow, help: 'form of the reply; for people if not given, which is JSON for most' },
  events: { name: 'events', help: 'print events, a line of JSON each, until the server ends' },
  job: {
    name: 'wait-job',
    value: 'ID',
    help: 'wait until this job has ended, or is ready to be completed; fail if it has failed',
  },
} as const satisfies OptionTable;

/** The verb. */
export const ctl = command({
  summary: 'give commands to a running server (QMP), ours or QEMU',
  operands: 'SOCKET [COMMAND [ARGUMENT]...]',
  options,
  notes: [
    "SOCKET is that of 'img serve --control', or a QMP socket of QEMU or qemu-storage-daemon:\n",
    "a path, or tcp:HOST:PORT. 'img ctl SOCKET query-commands' tells the commands.\n\n",
    'An ARGUMENT is key=value, with dots into objects and lists: bitmaps.0=b0. What reads as a\n',
    'number, true, false or null is that, anything in double quotes is a string, and a comma\n',
    'is doubled. Or all arguments are one JSON object.\n\n',
    '  img ctl s block-export-add type=nbd id=e node-name=disk0 writable=true\n',
    '  img ctl s block-dirty-bitmap-add node=disk0 name=b0 persistent=true\n',
    '  img ctl s query-named-block-nodes flat=true\n',
  ].join(''),
  run: async ({ options: given, operands }, terminal) => {
    const [socket, name, ...words] = operands;
    if (socket === undefined) throw new UsageError('Expecting a socket', { pointToHelp: true });
    const { events, job } = given;
    if (name === undefined && !events && job === undefined)
      throw new UsageError('Expecting a command', { pointToHelp: true });
    const json = wantsJson(given.output);
    const asked = commandArguments(words);
    await using client = await connected(socket);
    try {
      if (name !== undefined) {
        const reply = await client.execute(name, asked);
        terminal.print((json ? undefined : replyText(name, reply)) ?? replyJson(reply));
      }
      if (job !== undefined) await waitForJob(client, job);
      if (events) await printEvents(client, terminal);
      return 0;
    } catch (error) {
      throw explained(error);
    }
  },
});

async function connected(socket: string): Promise<QmpClient> {
  try {
    return await connectQmp(addressOf(socket));
  } catch (error) {
    if (!isDiskError(error) && !(error instanceof QmpError)) throw error;
    throw new CommandError(`Could not connect to '${socket}': ${error.message}`, { cause: error });
  }
}

function addressOf(socket: string): QmpAddress {
  const [, host, port] = /^tcp:\[?(.+?)\]?:(\d{1,5})$/.exec(socket) ?? [];
  if (host === undefined) return { path: socket.replace(/^unix:/, '') };
  if (Number(port) > 65_535) throw new UsageError(`Invalid port '${port}': expected 0 to 65535`);
  return { host, port: Number(port) };
}

async function printEvents(client: QmpClient, terminal: Terminal): Promise<void> {
  for await (const event of client.events()) terminal.print(`${JSON.stringify(event)}\n`);
}

function explained(error: unknown): unknown {
  return error instanceof QmpError ? new CommandError(error.message, { cause: error }) : error;
}
