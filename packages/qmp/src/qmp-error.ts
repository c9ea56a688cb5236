/** Refusals, as both ends of QMP see them. */

/** What kind of refusal; programs switch on it. Spec: QEMU QAPI schema, `QapiErrorClass` */
export type QmpErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'
  | 'KVMMissingCap';

/** A command was refused; the message is the server's own sentence. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly kind: QmpErrorClass;

  constructor(kind: QmpErrorClass, sentence: string) {
    super(sentence);
    this.kind = kind;
  }
}

/** A refusal of the ordinary kind. */
export function refusal(sentence: string): QmpError {
  return new QmpError('GenericError', sentence);
}
