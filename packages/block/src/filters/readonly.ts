/** A disk seen without its writing half, not in the type alone but in the object too. */
import { checkedSource } from '../checked.ts';
import type { BlockSource } from '../device.ts';

/** `source` for reading only. Disposing of the view leaves `source` open. */
export function readOnly(source: BlockSource): BlockSource {
  return checkedSource({
    size: source.size,
    read: (into, offset) => source.read(into, offset),
    tryRead: (into, offset) => source.tryRead(into, offset),
    extentAt: (offset, limit) => source.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => source.tryExtentAt(offset, limit),
    [Symbol.asyncDispose]: async () => {},
  });
}
