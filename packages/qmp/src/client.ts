/**
 * A client: steers QEMU, its storage daemon, or a server of ours.
 *
 * Events that nobody waits for yet are kept, so that a job may be started first and its end be awaited later.
 *
 * Spec: QEMU, "QEMU Machine Protocol Specification"
 */
import { connect, type Socket } from 'node:net';
import { DiskError } from '@strata/block';
import { formatMessage, isObject, type JsonObject } from './json.ts';
import { JsonStream, type Message } from './json-stream.ts';
import { keptEvents, replyLimits } from './limits.ts';
import { QmpError, type QmpErrorClass } from './qmp-error.ts';

/** What happened, as the server says it. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
}

/** Where a server listens. */
export type QmpAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** A connection after the negotiation; disposing of it closes it. */
export interface QmpClient extends AsyncDisposable {
  /** What the server says of itself. */
  readonly greeting: JsonObject;
  /**
   * Carries out a command and returns what it returns.
   *
   * @throws {QmpError} if the server refuses it @throws {DiskError} closed, protocol
   */
  execute<Returned = unknown>(command: string, given?: object): Promise<Returned>;
  /** The next event of this name for which `matches` holds; one that came earlier and was not taken counts. */
  event(name: string, matches?: (data: Readonly<Record<string, unknown>>) => boolean): Promise<QmpEvent>;
  /** The events that came earlier and were not taken; they are taken by this. */
  keptEvents(): readonly QmpEvent[];
  /** All events that nobody else takes, the kept ones first. It ends with the connection, and throws if that broke. */
  events(): AsyncGenerator<QmpEvent, void, undefined>;
}

/** Connects and negotiates. @throws {DiskError} not-found, denied, io if nobody answers there; protocol if it is no QMP */
export async function connectQmp(address: QmpAddress): Promise<QmpClient> {
  const client = new Connection(connect(address));
  try {
    await client.ready;
    await client.execute('qmp_capabilities');
    return client;
  } catch (error) {
    await client[Symbol.asyncDispose]();
    throw error;
  }
}

interface Settled<Value> {
  resolve(value: Value): void;
  reject(error: unknown): void;
}

interface Waiter extends Settled<QmpEvent | undefined> {
  takes(event: QmpEvent): boolean;
}

class Connection implements QmpClient {
  greeting: JsonObject = {};
  /** Resolves with the greeting. */
  readonly ready: Promise<void>;
  readonly #socket: Socket;
  readonly #stream = new JsonStream(replyLimits);
  readonly #commands = new Map<number, Settled<unknown>>();
  readonly #closed: Promise<void>;
  #greeted: Settled<void> | undefined;
  #events: QmpEvent[] = [];
  #waiters: Waiter[] = [];
  #ids = 0;
  #end: DiskError | undefined;
  #isOpen = false;
  #isDisposed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.ready = new Promise((resolve, reject) => {
      this.#greeted = { resolve, reject };
    });
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      // Whether an end comes as an error is a matter of what was on its way at that moment.
      const ended = `the QMP connection has ended: ${cause.message}`;
      this.#fail(this.#isOpen ? new DiskError('closed', ended, { cause }) : connectionError(cause));
    });
    socket.on('connect', () => {
      this.#isOpen = true;
    });
    socket.on('close', () => this.#fail(new DiskError('closed', 'the QMP connection has ended')));
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
  }

  execute<Returned>(command: string, given: object = {}): Promise<Returned> {
    const id = this.#ids++;
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) return reject(this.#end);
      this.#commands.set(id, { resolve: (value) => resolve(value as Returned), reject });
      this.#socket.write(`${formatMessage({ execute: command, arguments: given as JsonObject, id })}\n`);
    });
  }

  async event(name: string, matches: (data: Readonly<Record<string, unknown>>) => boolean = () => true) {
    const event = await this.#next((each) => each.event === name && matches(each.data ?? {}));
    if (event === undefined) throw this.#end;
    return event;
  }

  keptEvents(): readonly QmpEvent[] {
    return this.#events.splice(0);
  }

  async *events(): AsyncGenerator<QmpEvent, void, undefined> {
    for (;;) {
      const event = await this.#next(() => true);
      if (event !== undefined) yield event;
      else if (this.#isDisposed || this.#end?.code === 'closed') return;
      else throw this.#end;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    this.#socket.destroy();
    await this.#closed;
  }

  /** Undefined: the connection has ended. */
  #next(takes: (event: QmpEvent) => boolean): Promise<QmpEvent | undefined> {
    const seen = this.#events.findIndex(takes);
    const [kept] = seen < 0 ? [] : this.#events.splice(seen, 1);
    if (kept !== undefined || this.#end !== undefined) return Promise.resolve(kept);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ takes, resolve, reject });
    });
  }

  #receive(chunk: Buffer): void {
    for (const message of this.#stream.read(chunk)) {
      if (this.#end !== undefined) return;
      this.#take(message);
    }
  }

  #take(message: Message): void {
    const value = 'error' in message ? message.error : message.value;
    if (!isObject(value)) {
      this.#break(`not QMP: ${typeof value === 'string' ? value : formatMessage(value).slice(0, 200)}`);
    } else if (isObject(value['QMP'])) {
      this.greeting = value['QMP'];
      this.#greeted?.resolve();
    } else if (typeof value['event'] === 'string') {
      this.#happened(value as unknown as QmpEvent);
    } else {
      this.#answered(value);
    }
  }

  #answered(reply: JsonObject): void {
    const id = typeof reply['id'] === 'number' ? reply['id'] : -1;
    const command = this.#commands.get(id);
    this.#commands.delete(id);
    const { error } = reply;
    if (command === undefined) {
      this.#break(`a QMP answer to nothing that was asked: ${formatMessage(reply).slice(0, 200)}`);
    } else if (isObject(error)) {
      command.reject(errorOf(error));
    } else {
      command.resolve(reply['return']);
    }
  }

  #happened(event: QmpEvent): void {
    const waiting = this.#waiters.findIndex(({ takes }) => takes(event));
    const [waiter] = waiting < 0 ? [] : this.#waiters.splice(waiting, 1);
    if (waiter !== undefined) waiter.resolve(event);
    else if (this.#events.push(event) > keptEvents) this.#events.shift();
  }

  #break(sentence: string): void {
    this.#fail(new DiskError('protocol', sentence));
    this.#socket.destroy();
  }

  #fail(error: DiskError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    for (const each of [this.#greeted, ...this.#commands.values()]) each?.reject(error);
    this.#commands.clear();
    for (const waiter of this.#waiters.splice(0)) waiter.resolve(undefined);
  }
}

function errorOf({ class: kind, desc }: JsonObject): QmpError {
  return new QmpError(
    String(kind ?? 'GenericError') as QmpErrorClass,
    String(desc ?? '') || 'refused without a word',
  );
}

function connectionError(cause: NodeJS.ErrnoException): DiskError {
  const codes: Readonly<Record<string, 'not-found' | 'denied'>> = {
    ENOENT: 'not-found',
    EACCES: 'denied',
    ECONNREFUSED: 'not-found',
  };
  const sentences: Readonly<Record<string, string>> = {
    ENOENT: 'No such file or directory',
    EACCES: 'Permission denied',
    ECONNREFUSED: 'Connection refused',
  };
  const { code = '' } = cause;
  const sentence = sentences[code] ?? cause.message;
  return new DiskError(codes[code] ?? 'io', sentence, { op: 'connect', cause });
}
