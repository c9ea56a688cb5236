/**
 * Which requests are answered, and with which error the others are refused.
 *
 * Spec: proto.md, "Request types", "Command flags" and "Error values"
 */
import { statusQueryLength } from '../protocol/extents.ts';
import { Command, CommandFlag, NbdErrno } from '../protocol/numbers.ts';
import type { ReplyStyle } from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';

/** Why a request is not carried out. */
export interface Refusal {
  /** An `NbdErrno`. */
  readonly errno: number;
  /** For people; sent where structured replies were agreed on. */
  readonly text: string;
  /** The first byte of the request that is in the way, if it is known which. */
  readonly offset?: number;
}

/** What a connection has agreed on. */
export interface Agreement {
  readonly size: number;
  readonly writable: boolean;
  readonly style: ReplyStyle;
  /** Metadata contexts that were selected. */
  readonly contexts: number;
  /** What the client has promised to obey: offsets and lengths are multiples of it. */
  readonly minimumBlock: number;
  readonly maximumPayload: number;
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

const { fua, noHole, dontFragment, reqOne, fastZero, payloadLength } = CommandFlag;
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

/** True if a payload follows the header of a request. */
export function hasPayload({ command, flags }: RequestHeader, style: ReplyStyle): boolean {
  return style === 'extended' ? (flags & payloadLength) !== 0 : command === Command.write;
}

/**
 * Undefined: the request may be carried out. What the payload of a block status asks for is not judged; that is
 * a request of its own, without payload.
 */
export function validate(request: RequestHeader, agreed: Agreement): Refusal | undefined {
  if (agreed.style !== 'extended') return validateCommand(request, request.flags, agreed);
  const { command, flags, length } = request;
  const isPaid = hasPayload(request, agreed.style);
  if (command === Command.write && !isPaid) return refuse(EINVAL, 'WRITE needs PAYLOAD_LEN');
  if (isPaid && command === Command.blockStatus && agreed.contexts > 0) {
    const isFit = length > statusQueryLength(0) && length <= statusQueryLength(agreed.contexts);
    return isFit ? undefined : refuse(EINVAL, `${length} bytes are no list of metadata contexts`);
  }
  if (isPaid && command !== Command.write) return refuse(EINVAL, `request ${command} takes no payload`);
  return validateCommand(request, flags & ~payloadLength, agreed);
}

function validateCommand(request: RequestHeader, flags: number, agreed: Agreement): Refusal | undefined {
  const { command, offset, length } = request;
  const rule = rules[command];
  if (rule === undefined) return refuse(EINVAL, `unknown request ${command}`);
  if ((flags & ~rule.flags) !== 0)
    return refuse(EINVAL, `request ${command} takes no flags 0x${flags.toString(16)}`);
  if ((flags & dontFragment) !== 0 && agreed.style === 'simple') {
    return refuse(EINVAL, 'DF needs structured replies');
  }
  if (rule.writes && !agreed.writable) return refuse(EPERM, 'Export is read-only');
  if (offset + length > agreed.size) {
    const refusal = refuse(
      rule.pastEnd,
      `operation past EOF; From: ${offset}, Len: ${length}, Size: ${agreed.size}`,
    );
    return offset < agreed.size ? { ...refusal, offset: agreed.size } : refusal;
  }
  if (rule.payload && length > agreed.maximumPayload) {
    const errno = command === Command.read ? EOVERFLOW : EINVAL;
    return refuse(errno, `len (${length}) is larger than max len (${agreed.maximumPayload})`);
  }
  if (agreed.minimumBlock > 1 && (offset % agreed.minimumBlock !== 0 || length % agreed.minimumBlock !== 0)) {
    return refuse(EINVAL, `${offset}+${length} is not aligned to blocks of ${agreed.minimumBlock}`);
  }
  if (command === Command.flush && (offset !== 0 || length !== 0)) {
    return refuse(EINVAL, 'FLUSH takes no range');
  }
  if (command === Command.blockStatus) {
    if (agreed.contexts === 0) return refuse(EINVAL, 'CMD_BLOCK_STATUS not negotiated');
    if (length === 0) return refuse(EINVAL, 'need non-zero length');
  }
  return undefined;
}
