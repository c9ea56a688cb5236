/**
 * One request that waits for its answer, and the rules that its answer must keep.
 *
 * Every method that takes something from the server throws DiskError `protocol` when a rule is broken, which costs
 * the server the connection. A request that failed politely goes on taking chunks until the last.
 *
 * Spec: proto.md, "Structured reply types", "Request types"
 */
import { DiskError, type ErrorContext, errnoSentence } from '@strata/block';
import { codeOfErrno, errnoName } from '../errno.ts';
import type { BlockStatus } from '../protocol/extents.ts';
import { Command, NbdErrno } from '../protocol/numbers.ts';
import type { ErrorPayload } from '../protocol/reply.ts';
import { printable } from '../protocol/text.ts';
import { Coverage } from './coverage.ts';

/** What is sent, and what becomes of the answer. */
export interface RequestParts {
  /** Of `Command`. */
  readonly command: number;
  /** Of `CommandFlag`. */
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** For errors: the URI of the disk. */
  readonly path: string | undefined;
  /** Of a READ: as long as `length`, filled in place. */
  readonly into?: Uint8Array;
  /** The payload, unchanged until the request settles; of a WRITE as long as `length`. */
  readonly from?: Uint8Array;
  /** Of a BLOCK_STATUS that names them in its payload: the contexts that are asked for. */
  readonly contextIds?: readonly number[];
  /** Gets the chunks of a BLOCK_STATUS, one a context; empty for any other request. */
  readonly resolve: (statuses: readonly BlockStatus[]) => void;
  readonly reject: (error: unknown) => void;
}

const none: readonly BlockStatus[] = [];

/** See above. Cookies are the session's. */
export class PendingRequest {
  readonly parts: RequestParts;
  cookieHigh = 0;
  cookieLow = 0;
  /** The socket still reads from `parts.from`, so the caller must not have it back yet. */
  sending = false;
  readonly #coverage: Coverage | undefined;
  #statuses: BlockStatus[] | undefined;
  #failure: DiskError | undefined;
  #lastWords = false;

  constructor(parts: RequestParts) {
    this.parts = parts;
    this.#coverage = parts.command === Command.read ? new Coverage(parts.length) : undefined;
  }

  /** True if the server answered that it is shutting down. */
  get lastWords(): boolean {
    return this.#lastWords;
  }

  /** Where `length` bytes from `offset` of the disk go. @throws {DiskError} protocol */
  data(offset: number, length: number): Uint8Array {
    const at = offset - this.parts.offset;
    this.#covered().add(at, length);
    return (this.parts.into as Uint8Array).subarray(at, at + length);
  }

  /** Takes `length` zeros at `offset` of the disk. @throws {DiskError} protocol */
  hole(offset: number, length: number): void {
    this.data(offset, length).fill(0);
  }

  /** Takes one chunk of block status. @throws {DiskError} protocol */
  status(status: BlockStatus): void {
    this.#statuses ??= [];
    if (this.parts.contextIds?.includes(status.contextId) === false) {
      throw new DiskError('protocol', `a block status chunk for context ${status.contextId}, unasked`);
    }
    if (this.#statuses.some(({ contextId }) => contextId === status.contextId)) {
      throw new DiskError('protocol', `a second block status chunk for context ${status.contextId}`);
    }
    this.#statuses.push(status);
  }

  /** Takes an error; the first counts. @throws {DiskError} protocol for an offset outside the request */
  fail({ error, message, offset }: ErrorPayload): void {
    const { offset: start, length } = this.parts;
    if (offset !== undefined && (offset < start || offset >= start + length)) {
      throw new DiskError('protocol', `an error at ${offset} answers a request for ${start}+${length}`);
    }
    if (error === NbdErrno.ESHUTDOWN) this.#lastWords = true;
    const sentence = this.#lastWords ? 'The server is shutting down' : errnoSentence(wireName(error));
    const place = offset === undefined || this.#lastWords ? '' : ` at byte ${offset}`;
    const report = message === '' ? '' : ` (server reported: ${printable(message, 256)})`;
    this.#failure ??= new DiskError(
      codeOfErrno(error),
      sentence + place + report,
      this.#context(offset ?? start),
    );
  }

  /**
   * The last chunk has come. @throws {DiskError} protocol if the answer claims success and is not complete
   * @param contexts how many contexts a block status must have told of
   */
  check(contexts: number): void {
    if (this.#failure !== undefined) return;
    if (this.#coverage?.complete === false) {
      throw new DiskError('protocol', 'a read was answered without all of its bytes');
    }
    const asked = this.parts.contextIds?.length ?? contexts;
    if (this.parts.command === Command.blockStatus && this.#statuses?.length !== asked) {
      throw new DiskError('protocol', 'a block status was answered without all of its contexts');
    }
  }

  /** Gives the answer to the caller. */
  settle(): void {
    if (this.#failure !== undefined) this.parts.reject(this.#failure);
    else this.parts.resolve(this.#statuses ?? none);
  }

  /** There will be no answer. */
  abandon(reason: DiskError): void {
    const options = { ...this.#context(this.parts.offset), cause: reason };
    this.parts.reject(new DiskError(reason.code, reason.message, options));
  }

  #covered(): Coverage {
    if (this.#coverage !== undefined) return this.#coverage;
    throw new DiskError('protocol', `bytes came in answer to a ${this.#op()}`);
  }

  #context(offset: number): ErrorContext {
    const { path } = this.parts;
    return { ...(path !== undefined && { path }), op: this.#op(), offset };
  }

  #op(): string {
    const found = Object.entries(Command).find(([, number]) => number === this.parts.command);
    return found?.[0] ?? `command ${this.parts.command}`;
  }
}

/** Numbers that the protocol does not know count as EINVAL. Spec: "Error values" */
function wireName(errno: number): string {
  return Object.values(NbdErrno).some((known) => known === errno) ? errnoName(errno) : 'EINVAL';
}
