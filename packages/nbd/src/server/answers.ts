/**
 * The replies that have no bytes of the disk in them: done, and failed.
 *
 * Spec: proto.md, "Simple reply message" and "Structured reply chunk message"; "Extended reply chunk message" of the
 * branch extension-ext-header
 */
import { Command, ReplyFlag, ReplyType } from '../protocol/numbers.ts';
import {
  chunkHeaderLengthOf,
  encodeErrorPayload,
  type ReplyStyle,
  simpleReplyLength,
  writeChunkHeaderOf,
  writeSimpleReply,
} from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';
import type { Replies } from './replies.ts';
import type { Refusal } from './validate.ts';

/** Success without a payload. A READ of nothing is answered as a READ must be. */
export function answerDone(replies: Replies, request: RequestHeader, style: ReplyStyle): void {
  if (style === 'extended' || (style === 'structured' && request.command === Command.read)) {
    const length = chunkHeaderLengthOf(style);
    const at = replies.reserve(length);
    writeChunkHeaderOf(style, replies.bytes, at, ReplyFlag.done, ReplyType.none, request, 0);
    replies.commit(length);
    return;
  }
  const at = replies.reserve(simpleReplyLength);
  writeSimpleReply(replies.bytes, at, 0, request);
  replies.commit(simpleReplyLength);
}

/** An error, with its text, and its place if that is known, where chunks were agreed on. */
export function answerRefusal(
  replies: Replies,
  request: RequestHeader,
  style: ReplyStyle,
  { errno, text, offset }: Refusal,
): void {
  if (style === 'simple') {
    const at = replies.reserve(simpleReplyLength);
    writeSimpleReply(replies.bytes, at, errno, request);
    replies.commit(simpleReplyLength);
    return;
  }
  const type = offset === undefined ? ReplyType.error : ReplyType.errorOffset;
  const payload = encodeErrorPayload(errno, text, offset);
  const length = chunkHeaderLengthOf(style) + payload.length;
  const at = replies.reserve(length);
  const { bytes } = replies;
  payload.copy(bytes, writeChunkHeaderOf(style, bytes, at, ReplyFlag.done, type, request, payload.length));
  replies.commit(length);
}
