/**
 * What `blockdev-add` can be told of a node, and the same as the options by which images are described elsewhere.
 *
 * Drivers and their options are QEMU's; what one of them means is judged where described images are opened.
 */
import {
  anything,
  choice,
  either,
  flag,
  integer,
  isObject,
  isText,
  type Json,
  nothing,
  optional,
  record,
  type Schema,
  size,
  text,
  union,
} from '@strata/qmp';
import type { Scalar } from '../typed/flat-options.ts';

const base = {
  'node-name': optional(text),
  discard: optional(choice('ignore', 'unmap')),
  cache: optional(record({ direct: optional(flag), 'no-flush': optional(flag) })),
  'read-only': optional(flag),
  'auto-read-only': optional(flag),
  'force-share': optional(flag),
  'detect-zeroes': optional(choice('off', 'on', 'unmap')),
};

/** A node: described here, or by the name that it has. */
const reference: Schema<unknown> = either('BlockdevRef', isText, text, isObject, (value, at) =>
  blockdevOptions(value, at),
);

const isReferenceOrNull = (value: Json): boolean => isText(value) || isObject(value);

const drivers = {
  file: {
    filename: text,
    locking: optional(choice('auto', 'on', 'off')),
    aio: optional(choice('threads', 'native', 'io_uring')),
    'aio-max-batch': optional(size),
    'drop-cache': optional(flag),
  },
  luks: { file: reference, 'key-secret': optional(text) },
  nbd: {
    server: anything,
    export: optional(text),
    'tls-creds': optional(text),
    'tls-hostname': optional(text),
    'reconnect-delay': optional(integer),
    'open-timeout': optional(integer),
  },
  'null-co': {
    size: optional(size),
    'latency-ns': optional(size),
    'read-zeroes': optional(flag),
  },
  qcow2: {
    file: reference,
    backing: optional(
      either('BlockdevRefOrNull', isReferenceOrNull, reference, (value) => value === null, nothing),
    ),
    'lazy-refcounts': optional(flag),
    'pass-discard-request': optional(flag),
    'pass-discard-snapshot': optional(flag),
    'pass-discard-other': optional(flag),
    'overlap-check': optional(anything),
    'cache-size': optional(size),
    'l2-cache-size': optional(size),
    'l2-cache-entry-size': optional(size),
    'refcount-cache-size': optional(size),
    'cache-clean-interval': optional(size),
    encrypt: optional(anything),
    'data-file': optional(reference),
  },
  raw: { file: reference, offset: optional(size), size: optional(size) },
};

/** A described node. */
export const blockdevOptions = union('driver', base, drivers);

/** What `blockdev-add` was told. */
export type BlockdevOptions = ReturnType<typeof blockdevOptions>;

/** The options under names with dots, as described images have them; undefined stands for `null`. */
export function flatOptions(options: object, prefix = ''): ReadonlyMap<string, Scalar> {
  const flat = new Map<string, Scalar>();
  for (const [name, value] of Object.entries(options) as [string, Json | undefined][]) {
    if (value === undefined) continue;
    if (typeof value === 'object' && value !== null) {
      for (const [inner, scalar] of flatOptions(value, `${prefix}${name}.`)) flat.set(inner, scalar);
    } else {
      flat.set(
        `${prefix}${name}`,
        value === null ? undefined : typeof value === 'bigint' ? `${value}` : value,
      );
    }
  }
  return flat;
}
