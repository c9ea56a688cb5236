/**
 * The replies that have no bytes of the disk in them: done, and failed.
 *
 * Spec: proto.md, "Simple reply message" and "Structured reply chunk message"
 */
import { Command, ReplyFlag, ReplyType } from '../protocol/numbers.ts';
import {
  chunkHeaderLength,
  encodeErrorPayload,
  simpleReplyLength,
  writeChunkHeader,
  writeSimpleReply,
} from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';
import type { Replies } from './replies.ts';
import type { Refusal } from './validate.ts';

/** Success without a payload. A READ of nothing is answered as a READ must be. */
export function answerDone(replies: Replies, request: RequestHeader, structured: boolean): void {
  if (structured && request.command === Command.read) {
    const at = replies.reserve(chunkHeaderLength);
    writeChunkHeader(replies.bytes, at, ReplyFlag.done, ReplyType.none, request, 0);
    replies.commit(chunkHeaderLength);
    return;
  }
  const at = replies.reserve(simpleReplyLength);
  writeSimpleReply(replies.bytes, at, 0, request);
  replies.commit(simpleReplyLength);
}

/** An error, with its text where structured replies were agreed on. */
export function answerRefusal(
  replies: Replies,
  request: RequestHeader,
  structured: boolean,
  refusal: Refusal,
): void {
  if (!structured) {
    const at = replies.reserve(simpleReplyLength);
    writeSimpleReply(replies.bytes, at, refusal.errno, request);
    replies.commit(simpleReplyLength);
    return;
  }
  const payload = encodeErrorPayload(refusal.errno, refusal.text);
  const at = replies.reserve(chunkHeaderLength + payload.length);
  writeChunkHeader(replies.bytes, at, ReplyFlag.done, ReplyType.error, request, payload.length);
  payload.copy(replies.bytes, at + chunkHeaderLength);
  replies.commit(chunkHeaderLength + payload.length);
}
