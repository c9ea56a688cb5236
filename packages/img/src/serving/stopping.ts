/** When a server is to stop: at a signal, when its command has ended, or when its last client has left. */
import type { NbdServer, ServerObserver } from '@strata/nbd';

const stopping = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** How long requests may still take after the first signal: all in all a server ends within five seconds. */
const graceMs = 4000;

/** What a process is told to do by signals. Disposing of it gives signals their usual effect back. */
export interface StopSignals extends Disposable {
  /** The name of the first signal to stop. */
  readonly first: Promise<NodeJS.Signals>;
  readonly second: Promise<NodeJS.Signals>;
}

/** Signals to stop, from now on; any number of them is two. */
export function stopSignals(): StopSignals {
  const heard: ((signal: NodeJS.Signals) => void)[] = [];
  const next = (): Promise<NodeJS.Signals> => new Promise((resolve) => heard.push(resolve));
  const promises = { first: next(), second: next() };
  const listen = (signal: NodeJS.Signals): void => heard.shift()?.(signal);
  for (const signal of stopping) process.on(signal, listen);
  return {
    ...promises,
    [Symbol.dispose]: () => {
      for (const signal of stopping) process.off(signal, listen);
    },
  };
}

/** Closes the server; another signal cuts the clients off. @throws what the last flush rejects with */
export async function closeServer(server: NbdServer, { second }: StopSignals): Promise<void> {
  const closed = server.close({ graceMs });
  await Promise.race([closed, second.then(() => server.close({ graceMs: 0 }))]);
  await closed;
}

/** Closes the server however a command ends; what went wrong has been told by then. */
export function closedAtLast(server: NbdServer): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => server.close({ graceMs: 0 }).catch(() => undefined) };
}

/** Resolves when clients have been there and none is left that has chosen an export. */
export function lastClientLeft(): ServerObserver & { readonly done: Promise<void> } {
  let count = 0;
  let finish: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return {
    done,
    entered: () => {
      count++;
    },
    left: ({ session }) => {
      if (session !== undefined && --count === 0) finish();
    },
  };
}
