/**
 * A client of QMP, the protocol that steers a running QEMU.
 *
 * Events that nobody waits for yet are kept, so that a test may start a job first and await its end later.
 *
 * Spec: QEMU documentation, "QEMU Machine Protocol Specification"
 */
import { connect, type Socket } from 'node:net';

/** What happened, as the server says it. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** The server refused a command; the message is its own sentence. */
export class QmpError extends Error {
  /** `GenericError`, `CommandNotFound` and so on. */
  readonly kind: string;

  constructor(kind: string, sentence: string) {
    super(sentence);
    this.name = 'QmpError';
    this.kind = kind;
  }
}

/** A connection after `qmp_capabilities`; disposing of it closes the connection. */
export interface Qmp extends AsyncDisposable {
  /** Carries out a command and returns what it returns. @throws {QmpError} if the server refuses it */
  execute<Returned = unknown>(command: string, args?: object): Promise<Returned>;
  /** The next event of this name for which `matches` holds; one that came earlier and was not awaited counts. */
  event(name: string, matches?: (data: Readonly<Record<string, unknown>>) => boolean): Promise<QmpEvent>;
}

/** Connects to a server's unix socket. @throws {Error} if nobody listens there, or what does speaks no QMP */
export async function openQmp(path: string): Promise<Qmp> {
  const socket = connect(path);
  const qmp = new Connection(socket);
  await qmp.greeted;
  await qmp.execute('qmp_capabilities');
  return qmp;
}

interface Settled<Value> {
  resolve(value: Value): void;
  reject(error: Error): void;
}

interface Waiter extends Settled<QmpEvent> {
  takes(event: QmpEvent): boolean;
}

interface Message {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
}

class Connection implements Qmp {
  readonly greeted: Promise<void>;
  readonly #socket: Socket;
  readonly #commands = new Map<number, Settled<unknown>>();
  readonly #closed: Promise<void>;
  #greeting: Settled<void> | undefined;
  #events: QmpEvent[] = [];
  #waiters: Waiter[] = [];
  #ids = 0;
  #unfinished = '';
  #end: Error | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.greeted = new Promise((resolve, reject) => {
      this.#greeting = { resolve, reject };
    });
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('error', (cause) => {
      this.#fail(new Error(`the QMP connection has ended: ${cause.message}`, { cause }));
    });
    socket.on('close', () => this.#fail(new Error('the QMP connection has ended')));
    socket.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
  }

  execute<Returned>(command: string, args: object = {}): Promise<Returned> {
    const id = this.#ids++;
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) return reject(this.#end);
      this.#commands.set(id, { resolve: (value) => resolve(value as Returned), reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  event(name: string, matches: (data: Readonly<Record<string, unknown>>) => boolean = () => true) {
    const takes = (event: QmpEvent): boolean => event.event === name && matches(event.data ?? {});
    const seen = this.#events.findIndex(takes);
    const [kept] = seen < 0 ? [] : this.#events.splice(seen, 1);
    if (kept !== undefined) return Promise.resolve(kept);
    return new Promise<QmpEvent>((resolve, reject) => {
      if (this.#end === undefined) this.#waiters.push({ takes, resolve, reject });
      else reject(this.#end);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.#closed;
  }

  #receive(text: string): void {
    const lines = `${this.#unfinished}${text}`.split('\n');
    this.#unfinished = lines.pop() ?? '';
    for (const line of lines) this.#read(line);
  }

  #read(line: string): void {
    try {
      this.#take(JSON.parse(line) as Message);
    } catch (cause) {
      this.#fail(new Error(`not QMP: ${line}`, { cause }));
    }
  }

  #take(message: Message): void {
    if (message.QMP !== undefined) this.#greeting?.resolve();
    else if (message.event !== undefined) this.#happened(message as QmpEvent);
    else this.#answered(message);
  }

  #answered(message: Message): void {
    const { id = -1, error } = message;
    const command = this.#commands.get(id);
    this.#commands.delete(id);
    if (command === undefined)
      this.#fail(new Error(`a QMP answer to nothing that was asked: ${JSON.stringify(message)}`));
    else if (error === undefined) command.resolve(message.return);
    else command.reject(new QmpError(error.class, error.desc));
  }

  #happened(event: QmpEvent): void {
    const waiting = this.#waiters.findIndex(({ takes }) => takes(event));
    const [waiter] = waiting < 0 ? [] : this.#waiters.splice(waiting, 1);
    if (waiter === undefined) this.#events.push(event);
    else waiter.resolve(event);
  }

  #fail(error: Error): void {
    this.#end ??= error;
    for (const each of [this.#greeting, ...this.#commands.values(), ...this.#waiters]) each?.reject(error);
    this.#commands.clear();
    this.#waiters = [];
  }
}
