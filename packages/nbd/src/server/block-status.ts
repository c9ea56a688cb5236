/**
 * BLOCK_STATUS: the extents of each selected context, written as chunks of one reply.
 *
 * A reply is bounded in extents and in questions to the disk; it then ends early, and clients ask again from
 * where it ends. Between questions the loop gets its turns.
 *
 * Spec: proto.md, "Request types", NBD_CMD_BLOCK_STATUS
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { statusLayout, writeStatusExtent, writeStatusHeader } from '../protocol/extents.ts';
import { CommandFlag, ReplyFlag, ReplyType } from '../protocol/numbers.ts';
import { chunkHeaderLengthOf, type ReplyStyle, writeChunkHeaderOf } from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';
import type { MetaContext } from './contexts.ts';
import { statusExtents, statusQuestions } from './limits.ts';

/** Questions that are put without letting others have a turn. */
const questionsInTurn = 512;

/**
 * The whole reply to a block status request that has been judged valid.
 * @throws what a context rejects with
 */
export async function blockStatusReply(
  request: Readonly<RequestHeader>,
  contexts: ReadonlyMap<number, MetaContext>,
  style: ReplyStyle,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (const [id, context] of contexts) {
    const runs = await collectRuns(context, request);
    const last = chunks.length === contexts.size - 1;
    chunks.push(statusChunk(style, request, id, runs, last ? ReplyFlag.done : 0));
  }
  return Buffer.concat(chunks);
}

/** Lengths and flags by turns. */
async function collectRuns(
  context: MetaContext,
  request: Readonly<RequestHeader>,
): Promise<readonly number[]> {
  const most = (request.flags & CommandFlag.reqOne) !== 0 ? 1 : statusExtents;
  const end = request.offset + request.length;
  const runs: number[] = [];
  let offset = request.offset;
  for (let asked = 1; offset < end && asked <= statusQuestions; asked++) {
    const limit = end - offset;
    const { length, flags } = context.tryDescribe(offset, limit) ?? (await context.describe(offset, limit));
    const last = runs.length - 2;
    if (runs[last + 1] === flags) runs[last] = (runs[last] as number) + length;
    else if (runs.length === 2 * most) break;
    else runs.push(length, flags);
    offset += length;
    if (asked % questionsInTurn === 0) await nextTurn();
  }
  return runs;
}

function statusChunk(
  style: ReplyStyle,
  request: Readonly<RequestHeader>,
  id: number,
  runs: readonly number[],
  flags: number,
): Buffer {
  const layout = statusLayout(style);
  const length = layout.header + (runs.length / 2) * layout.extent;
  const chunk = Buffer.allocUnsafe(chunkHeaderLengthOf(style) + length);
  const type = style === 'extended' ? ReplyType.blockStatusExtended : ReplyType.blockStatus;
  let at = writeChunkHeaderOf(style, chunk, 0, flags, type, request, length);
  at = writeStatusHeader(style, chunk, at, id, runs.length / 2);
  for (let index = 0; index < runs.length; index += 2) {
    at = writeStatusExtent(style, chunk, at, runs[index] as number, runs[index + 1] as number);
  }
  return chunk;
}
