/**
 * What `img` prints is what qemu-img 7.2 prints, byte for byte, with the program's name exchanged.
 *
 * `qemu-img/*.out` and `qemu-nbd/*.out` are transcripts of the real tools: one test replays each script with ours, another verifies the
 * record against the tool where it is installed. `ours/*.out` are our own, where we differ on purpose or go
 * further. `UPDATE=1` writes the records anew, the former from the real tool.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires, temporaryFolder } from '@strata/testkit';
import { type CommandUnderTest, programsOf, realQemuImg, realQemuNbd, transcript } from './script.ts';

const folder = fileURLToPath(new URL('../../golden/', import.meta.url));
const built = new URL('../../../packages/img/dist/src/cli.js', import.meta.url).href;
const update = process.env['UPDATE'] === '1';

/** The command's own `main`: a run of it costs no process, and two hundred of them no minute. */
interface Img {
  main(words: readonly string[], terminal: Terminal): Promise<number>;
}

interface Terminal {
  print(text: string): void;
  warn(text: string): void;
  readonly live: boolean;
}

let img: Img;

before(async () => {
  process.env['LC_ALL'] = 'C';
  process.env['TZ'] = 'UTC';
  img = (await import(built)) as Img;
});

const ours: CommandUnderTest = async (words) => {
  let stdout = '';
  let stderr = '';
  const terminal: Terminal = {
    live: false,
    print: (text) => {
      stdout += text;
    },
    warn: (text) => {
      stderr += text;
    },
  };
  const status = await img.main(words, terminal);
  return { status, stdout, stderr };
};

async function replay(script: string, command: CommandUnderTest): Promise<string> {
  const home = process.cwd();
  await using temporary = await temporaryFolder();
  process.chdir(temporary.path);
  try {
    return await transcript(script, command);
  } finally {
    process.chdir(home);
  }
}

for (const [kind, record] of [
  ['qemu-img', realQemuImg],
  ['qemu-nbd', realQemuNbd],
  ['ours', ours],
] as const) {
  for (const file of readdirSync(`${folder}${kind}`).filter((name) => name.endsWith('.cmd'))) {
    const name = file.slice(0, -'.cmd'.length);
    const script = readFileSync(`${folder}${kind}/${file}`, 'utf8');
    const recorded = `${folder}${kind}/${name}.out`;
    const needs = programsOf(script);

    if (update) {
      test(`${kind}/${name} is recorded`, requires('qemu-img', ...needs), async () => {
        writeFileSync(recorded, await replay(script, record));
      });
    } else if (kind !== 'ours') {
      test(`the record of ${name} is what ${kind} prints`, requires(kind, ...needs), async () => {
        assert.equal(await replay(script, record), readFileSync(recorded, 'utf8'));
      });
    }
    test(`img prints the record of ${kind}/${name}`, requires(...needs), async () => {
      assert.equal(await replay(script, ours), readFileSync(recorded, 'utf8'));
    });
  }
}
