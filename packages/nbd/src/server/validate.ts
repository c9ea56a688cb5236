/**
 * Which requests are answered, and with which error the others are refused.
 *
 * Spec: proto.md, "Request types", "Command flags" and "Error values"
 */
import { Command, CommandFlag, NbdErrno } from '../protocol/numbers.ts';
import type { RequestHeader } from '../protocol/request.ts';
import { maxPayload } from './limits.ts';

/** Why a request is not carried out. */
export interface Refusal {
  /** An `NbdErrno`. */
  readonly errno: number;
  /** For people; sent where structured replies were agreed on. */
  readonly text: string;
}

/** What a connection has agreed on. */
export interface Agreement {
  readonly size: number;
  readonly writable: boolean;
  readonly structured: boolean;
  /** At least one metadata context was selected. */
  readonly contexts: boolean;
}

interface Rule {
  /** Flags that the command takes. */
  readonly flags: number;
  readonly writes: boolean;
  /** The answer to a range past the end. */
  readonly pastEnd: number;
  /** Bytes that travel for it. */
  readonly payload: boolean;
}

const { fua, noHole, dontFragment, reqOne, fastZero } = CommandFlag;
const { EINVAL, ENOSPC, EOVERFLOW, EPERM } = NbdErrno;

/** By command. FUA is taken everywhere because clients set it everywhere. */
const rules: readonly (Rule | undefined)[] = (() => {
  const table: (Rule | undefined)[] = [];
  table[Command.read] = { flags: fua | dontFragment, writes: false, pastEnd: EINVAL, payload: true };
  table[Command.write] = { flags: fua, writes: true, pastEnd: ENOSPC, payload: true };
  table[Command.flush] = { flags: fua, writes: false, pastEnd: EINVAL, payload: false };
  table[Command.trim] = { flags: fua, writes: true, pastEnd: EINVAL, payload: false };
  table[Command.cache] = { flags: fua, writes: false, pastEnd: EINVAL, payload: false };
  table[Command.writeZeroes] = {
    flags: fua | noHole | fastZero,
    writes: true,
    pastEnd: ENOSPC,
    payload: false,
  };
  table[Command.blockStatus] = { flags: fua | reqOne, writes: false, pastEnd: EINVAL, payload: false };
  return table;
})();

const refuse = (errno: number, text: string): Refusal => ({ errno, text });

/** Undefined: the request may be carried out. */
export function validate(request: RequestHeader, agreed: Agreement): Refusal | undefined {
  const { command, flags, offset, length } = request;
  const rule = rules[command];
  if (rule === undefined) return refuse(EINVAL, `unknown request ${command}`);
  if ((flags & ~rule.flags) !== 0)
    return refuse(EINVAL, `request ${command} takes no flags 0x${flags.toString(16)}`);
  if ((flags & dontFragment) !== 0 && !agreed.structured) {
    return refuse(EINVAL, 'DF needs structured replies');
  }
  if (rule.writes && !agreed.writable) return refuse(EPERM, 'Export is read-only');
  if (offset + length > agreed.size) {
    return refuse(rule.pastEnd, `operation past EOF; From: ${offset}, Len: ${length}, Size: ${agreed.size}`);
  }
  if (rule.payload && length > maxPayload) {
    const errno = command === Command.read ? EOVERFLOW : EINVAL;
    return refuse(errno, `len (${length}) is larger than max len (${maxPayload})`);
  }
  if (command === Command.flush && (offset !== 0 || length !== 0)) {
    return refuse(EINVAL, 'FLUSH takes no range');
  }
  if (command === Command.blockStatus) {
    if (!agreed.contexts) return refuse(EINVAL, 'CMD_BLOCK_STATUS not negotiated');
    if (length === 0) return refuse(EINVAL, 'need non-zero length');
  }
  return undefined;
}
