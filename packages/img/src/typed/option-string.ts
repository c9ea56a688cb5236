/**
 * `--image-opts`: a list of options, `NAME=VALUE,...`, flat, with dots in the names.
 *
 * As QEMU reads it: a comma in a value is doubled, of several values of one name the last counts, a name alone is
 * `on` or, with `no` in front of it, `off`, and what stands alone at the start is a reference to a node.
 */
import type { Scalar } from './flat-options.ts';

/** Reads the list. */
export function parseOptionString(text: string): ReadonlyMap<string, Scalar> {
  const options = new Map<string, Scalar>();
  const pattern = /([^=,]*)(?:=((?:[^,]|,,)*))?(?:,|$)/suy;
  // What stands alone at the start may have commas, doubled ones.
  const [alone, reference] = /^([^=,]*(?:,,(?:[^,]|,,)*)?)(?:,|$)/su.exec(text) ?? [];
  if (text !== '' && reference !== undefined) {
    options.set('file', reference.replaceAll(',,', ','));
    pattern.lastIndex = alone?.length ?? 0;
  }
  while (pattern.lastIndex < text.length) {
    const [, name = '', value] = pattern.exec(text) ?? [];
    const isOff = value === undefined && name.startsWith('no');
    const key = isOff ? name.slice('no'.length) : name;
    // An id is that of the list and not of the image.
    if (key !== 'id') options.set(key, value?.replaceAll(',,', ',') ?? (isOff ? 'off' : 'on'));
  }
  return options;
}
