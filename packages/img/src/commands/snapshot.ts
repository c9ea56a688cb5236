/** `snapshot`: lists, creates, applies and deletes the internal snapshots of an image. Opens one file. */
import { DiskError, type ErrorCode, errnoSentence, type HostFile, isDiskError } from '@strata/block';
import { imageOptionsRow, oneImage, quietRow, shareRow } from '../arguments.ts';
import { command } from '../command.ts';
import type { SnapshotSupport } from '../formats/support.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, openImage, openImageFile, type Wish } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { snapshotLines } from '../print/snapshots.ts';
import { CommandError, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  list: { letter: 'l', help: 'list the snapshots', many: true },
  apply: {
    letter: 'a',
    value: 'SNAPSHOT',
    help: 'make the disk what a snapshot keeps: its id or name',
    many: true,
  },
  create: { letter: 'c', value: 'NAME', help: 'keep the disk as it is under a name', many: true },
  remove: { letter: 'd', value: 'NAME', help: 'delete the first snapshot of that name', many: true },
  quiet: quietRow,
  share: shareRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
} as const satisfies OptionTable;

/** The verb. */
export const snapshot = command({
  summary: 'list, create, apply or delete the snapshots inside an image',
  operands: 'FILE',
  options,
  run: async (
    { options: { list, apply, create, remove, share, imageOptions }, operands, objects },
    terminal,
  ) => {
    const actions = [
      ...apply.map((name) => ({ act: applying, name })),
      ...create.map((name) => ({ act: creating, name })),
      ...remove.map((name) => ({ act: removing, name })),
    ];
    if (actions.length + list.length > 1) {
      throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'", { pointToHelp: true });
    }
    const file = oneImage(operands);
    const wish = { format: undefined, share, imageOptions, objects };
    if (list.length > 0) {
      await listing(file, wish, terminal);
      return 0;
    }
    await using image = await openImageFile(file, wish);
    for (const { act, name } of actions) {
      await act(image.host, image.support.snapshots, name).catch((error: unknown) => {
        throw isDiskError(error) ? cannotOpen(file, error) : error;
      });
    }
    return 0;
  },
});

async function listing(file: string, wish: Omit<Wish, 'allow'>, terminal: Terminal): Promise<void> {
  await using image = await openImage(file, wish);
  const { snapshots = [] } = await image.support.describe(image.host).catch((error: unknown) => {
    throw cannotOpen(file, error);
  });
  terminal.print(
    snapshotLines(snapshots)
      .map((line) => `${line}\n`)
      .join(''),
  );
}

type Act = (host: HostFile, support: SnapshotSupport | undefined, name: string) => Promise<void>;

const creating: Act = async (host, support, name) => {
  try {
    if (support === undefined) throw new DiskError('not-supported', 'no snapshots');
    await support.create(host, cutShort(name), new Date());
  } catch (error) {
    throw failure(error, ({ code }) => {
      const [number, errno] = errnos[code];
      return `Could not create snapshot '${name}': -${number} (${errnoSentence(errno)})`;
    });
  }
};

const removing: Act = async (host, support, name) => {
  try {
    if (support === undefined) throw new DiskError('not-found', 'no snapshots');
    await support.remove(host, name);
  } catch (error) {
    throw failure(error, ({ code, message }) => {
      const why = code === 'not-found' || code === 'not-supported' ? 'snapshot not found' : message;
      return `Could not delete snapshot '${name}': ${why}`;
    });
  }
};

const applying: Act = async (host, support, name) => {
  const could = `Could not apply snapshot '${name}': `;
  if (support === undefined) throw new CommandError(`${could}Block driver does not support snapshots`);
  try {
    await support.apply(host, name);
  } catch (error) {
    throw failure(error, ({ code, message }) => {
      if (code === 'busy') return could + message;
      return `${could}Failed to load snapshot: ${errnoSentence(errnos[code][1])}`;
    });
  }
};

/** What a change fails with has its own words; that an image cannot be opened is left to the caller. */
function failure(error: unknown, sentence: (error: DiskError) => string): unknown {
  if (!isDiskError(error) || error.context.op === 'open') return error;
  return new CommandError(sentence(error), { cause: error });
}

/** What of a name fits into the 256 bytes that QEMU has for it. */
function cutShort(name: string): string {
  let cut = '';
  let bytes = 0;
  for (const character of name) {
    bytes += Buffer.byteLength(character);
    if (bytes > 255) break;
    cut += character;
  }
  return cut;
}

/** As QEMU would answer. */
const errnos = {
  corrupt: [5, 'EIO'],
  limit: [27, 'EFBIG'],
  'not-supported': [95, 'ENOTSUP'],
  invalid: [22, 'EINVAL'],
  'not-found': [2, 'ENOENT'],
  exists: [17, 'EEXIST'],
  denied: [13, 'EACCES'],
  'read-only': [30, 'EROFS'],
  'no-space': [28, 'ENOSPC'],
  io: [5, 'EIO'],
  protocol: [71, 'EPROTO'],
  closed: [9, 'EBADF'],
  busy: [16, 'EBUSY'],
  aborted: [125, 'ECANCELED'],
} as const satisfies Readonly<Record<ErrorCode, readonly [number, string]>>;
