/**
 * What one client may cost: every bound of the server in one place.
 *
 * A connection holds at most: its receive blocks, `heldReplies` and one more block of replies, and what
 * `ownAllowance` and the budget grant to requests too large for those.
 */

/** An option whose data is longer ends the connection; the data is not read. */
export const maxOptionLength = 64 * 1024;

/** Options that a client may send before it must choose an export. */
export const maxOptions = 64;
/** More of them for each export that LIST has named, because clients ask about each. */
export const optionsPerListedExport = 32;

/** From the first byte to the transmission phase. */
export const handshakeTimeoutMs = 10_000;

/** Connections that are served at the same time, unless the caller says otherwise. */
export const defaultConnections = 100;
/** Of them, those of one TCP address, unless the caller says otherwise. */
export const connectionsPerAddress = 32;
/** Connections that are accepted and wait for one of those to end, as in a listen queue. */
export const waitingConnections = 128;

/** The payload of one READ or WRITE. */
export const maxPayload = 32 * 1024 * 1024;
/** A WRITE that is longer than `maxPayload` is passed over and refused up to here; above, the client is cut off. */
export const maxSkippedPayload = 64 * 1024 * 1024;

/** Requests of one connection that are under way. */
export const requestsInFlight = 16;

/** Bytes of buffers with replies that a client has not taken yet; from here on nothing more is read from it. */
export const heldReplies = 1024 * 1024;

/** Receive blocks that requests under way may hold on to. */
export const receiveBlocks = 4;

/** A request with more bytes has a buffer of its own. */
export const inPlacePayload = 32 * 1024;

/** Bytes in buffers of their own that a connection may hold without asking the budget. */
export const ownAllowance = 1024 * 1024;
/** Bytes in buffers of their own, all connections together, beyond their allowances. */
export const globalBudget = 64 * 1024 * 1024;
/** A connection that holds budget others wait for, and has not moved a byte for so long, is cut off. */
export const stalledMs = 60_000;
/** How often in that time this is looked at. */
export const stalledChecks = 4;

/** Unused buffers that the server keeps. */
export const pooledBytes = 32 * 1024 * 1024;

/** Extents in one block status chunk. */
export const statusExtents = 131_072;
/** Questions to the disk for one block status request; then the reply ends early. */
export const statusQuestions = 65_536;

/** Characters of an error text; escaped, it stays below what a string of the protocol may be. */
export const maxErrorText = 400;
