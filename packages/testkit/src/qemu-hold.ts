/** A QEMU that opens an image and keeps it open, as long as a test wants: for locks. */
import { spawn } from 'node:child_process';

/** What came of opening: QEMU holds the image until this is disposed of, or refused it. */
export interface QemuHold extends AsyncDisposable {
  /** QEMU's sentence, without its own name and the path; undefined if it holds the image. */
  readonly refusal: string | undefined;
}

/** Opens an image with `qemu-io`. `args` say how: none for writing, `-r` for reading, `-r -U` beside a writer. */
export async function qemuHold(path: string, format: string, args: readonly string[]): Promise<QemuHold> {
  const child = spawn('qemu-io', [...args, '-f', format, path], { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const prompted = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('qemu-io>')) resolve();
    });
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  await Promise.race([prompted, ended]);
  const refusal = output.includes('qemu-io>') ? undefined : sentenceOf(errors);
  return {
    refusal,
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** `qemu-io: can't open device x: Failed to get "write" lock` and a line of advice: the sentence between. */
function sentenceOf(errors: string): string {
  const [first = ''] = errors.split('\n');
  return first.replace(/^qemu-\w+: (can't open device|Could not open) [^:]*: /, '');
}
