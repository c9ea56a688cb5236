/**
 * What is left of a READ that failed: the chunks of what lies before the first byte that cannot be read, and where
 * that is.
 *
 * A disk says that a read failed and not where. So the range is read again, piece after piece, and a piece that fails in
 * ever smaller parts. That makes a handful of failures in all, whatever the length: each may take a disk long.
 *
 * Spec: proto.md, "Request types", NBD_CMD_READ; "Structured reply types", NBD_REPLY_TYPE_ERROR_OFFSET
 */
import type { BlockSource } from '@strata/block';
import type { ReplyStyle } from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';
import { mustBeWhole, type Piece, ReadPlan, writeDataHeader, writeHole } from './read-layout.ts';

/** In so many parts a piece that failed is read again. */
const parts = 16;
/** A place is told no finer than this: the smallest sector of any disk. */
const finest = 512;

/** The beginning of a read. */
export interface PartialRead {
  /** Bytes of the chunks, none of which is the last of its reply. */
  readonly length: number;
  /** The first byte that could not be read. */
  readonly offset: number;
}

/** What is needed beside the request. */
export interface PartialReadOptions {
  readonly source: BlockSource;
  readonly style: ReplyStyle;
  /** False: nobody waits for the answer any more. */
  wanted(): boolean;
}

/**
 * Lays the chunks out in `into`, which has room for the whole reply. Undefined: this time nothing failed, or there
 * is nobody to tell. Never rejects.
 */
export async function readUpToFailure(
  request: RequestHeader,
  into: Buffer,
  options: PartialReadOptions,
): Promise<PartialRead | undefined> {
  const { style } = options;
  let position = 0;
  for (const piece of await piecesOf(request, options)) {
    const { offset, length, zeros } = piece;
    if (zeros) {
      position = writeHole(style, into, position, 0, request, piece);
      continue;
    }
    const start = writeDataHeader(style, into, position, 0, request, offset, length);
    const good = await readablePrefix(into.subarray(start, start + length), offset, options);
    if (good === undefined) return undefined;
    if (good > 0) writeDataHeader(style, into, position, 0, request, offset, good);
    if (good < length) return { length: good > 0 ? start + good : position, offset: offset + good };
    position = start + length;
  }
  return undefined;
}

/** A range whose extents cannot be had is one piece of bytes. */
async function piecesOf(
  request: RequestHeader,
  { source, style }: PartialReadOptions,
): Promise<readonly Piece[]> {
  const { offset, length } = request;
  const whole: readonly Piece[] = [{ offset, length, zeros: false }];
  if (mustBeWhole(request, style)) return whole;
  const plan = new ReadPlan(offset, length);
  return plan.complete(source).then(
    () => plan.pieces,
    () => whole,
  );
}

/** A part of a piece: what begins and ends there. */
interface Part {
  readonly start: number;
  readonly end: number;
}

/** How many bytes can be read before the first that cannot. Undefined: nobody waits, or what failed does not fail again. */
async function readablePrefix(
  into: Uint8Array,
  offset: number,
  { source, wanted }: PartialReadOptions,
): Promise<number | undefined> {
  const firstFailing = async ({ start, end }: Part): Promise<Part | undefined> => {
    const step = Math.max(finest, Math.ceil((end - start) / parts / finest) * finest);
    for (let at = start; at < end; ) {
      const cut = offset + at + step;
      const part = { start: at, end: Math.min(end, cut - (cut % finest) - offset) };
      if (!wanted() || !(await isReadable(source, into.subarray(part.start, part.end), offset + at)))
        return part;
      at = part.end;
    }
    return undefined;
  };
  let failing = await firstFailing({ start: 0, end: into.length });
  if (failing === undefined) return into.length;
  while (failing.end - failing.start > finest) {
    failing = await firstFailing(failing);
    if (failing === undefined) return undefined;
  }
  return wanted() ? failing.start : undefined;
}

function isReadable(source: BlockSource, into: Uint8Array, offset: number): Promise<boolean> {
  return source.read(into, offset).then(
    () => true,
    () => false,
  );
}
