/** What one client of QMP, or the server at the other end, may make us hold. */
import type { MessageLimits } from './json-stream.ts';

/** Of what a client sends. A transaction of ten thousand actions is far below. */
export const requestLimits: MessageLimits = { bytes: 4 * 1024 * 1024, tokens: 2 ** 18, depth: 1024 };

/** Of what a server answers: the nodes of a chain of hundreds of images are some megabytes. */
export const replyLimits: MessageLimits = { bytes: 64 * 1024 * 1024, tokens: 2 ** 22, depth: 1024 };

/** Bytes of events that a client leaves lying before it is dropped. */
export const heldEvents = 1024 * 1024;

/** Clients at a time; further ones are hung up on. */
export const mostClients = 32;

/** How long the command under way may still take when the server stops, and then a client for the last replies. */
export const farewellMs = 1000;

/** Events that a client of ours keeps for who asks later; the oldest are forgotten first. */
export const keptEvents = 10_000;
