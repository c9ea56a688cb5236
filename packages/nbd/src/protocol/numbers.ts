/**
 * Every number of the NBD protocol that has a name in its specification.
 *
 * Spec: proto.md, "Values"; the magic numbers, "Newstyle negotiation" to "Extended reply chunk message". What is of the
 * extended headers stands in proto.md of the branch extension-ext-header.
 */

/** The magic numbers of 64 bits, all of them in the handshake. */
export const HandshakeMagic = {
  /** `NBDMAGIC` */
  greeting: 0x4e42444d41474943n,
  /** `IHAVEOPT`: of a newstyle greeting, and of every option. */
  option: 0x49484156454f5054n,
  optionReply: 0x0003e889045565a9n,
  /** In the place of `option`, this is an oldstyle server. */
  oldstyle: 0x00420281861253n,
} as const;

/** The magic numbers of 32 bits, all of them in the transmission phase. */
export const Magic = {
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
  extendedRequest: 0x21e41c71,
  extendedReply: 0x6e8a278c,
} as const;

/** Sent by the server in its greeting (16 bits), and back by the client (32 bits). */
export const HandshakeFlag = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

/** What the server tells of an export. */
export const TransmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
  /** Of the extended headers. */
  blockStatusPayload: 1 << 12,
} as const;

/** Options of the handshake. */
export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

/** Replies to an option. Bit 31 marks an error, whose payload is a text for people. */
export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: 0x8000_0001,
  errPolicy: 0x8000_0002,
  errInvalid: 0x8000_0003,
  errPlatform: 0x8000_0004,
  errTlsRequired: 0x8000_0005,
  errUnknown: 0x8000_0006,
  errShutdown: 0x8000_0007,
  errBlockSizeRequired: 0x8000_0008,
  errTooBig: 0x8000_0009,
  errExtendedHeadersRequired: 0x8000_000a,
} as const;

/** What INFO and GO ask for and are told. */
export const InfoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** Requests of the transmission phase. */
export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

/** Flags of a request. */
export const CommandFlag = {
  fua: 1 << 0,
  noHole: 1 << 1,
  dontFragment: 1 << 2,
  reqOne: 1 << 3,
  fastZero: 1 << 4,
  /** Of the extended headers. */
  payloadLength: 1 << 5,
} as const;

/** Flags of a structured reply chunk. */
export const ReplyFlag = { done: 1 << 0 } as const;

/** Types of structured reply chunks. Bit 15 marks an error. */
export const ReplyType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  /** Of the extended headers, instead of the other. */
  blockStatusExtended: 6,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

/** The status bits of `base:allocation`. */
export const AllocationFlag = { hole: 1 << 0, zero: 1 << 1 } as const;

/** Error numbers on the wire; the protocol knows no others. Spec: "Error values" */
export const NbdErrno = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Any string of the protocol, in bytes of UTF-8. Spec: "Conventions" */
export const maxStringLength = 4096;

/** Payload that every server takes and gives unless it says otherwise. Spec: "Size constraints" */
export const defaultMaxPayload = 32 * 1024 * 1024;

/** The port of the protocol. Spec: "Newstyle negotiation" */
export const defaultPort = 10809;
