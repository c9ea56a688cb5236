/** The formats that the command knows. A new one is a line here. */

import { luksSupport } from './formats/luks.ts';
import { qcow2Support } from './formats/qcow2.ts';
import { rawSupport } from './formats/raw.ts';
import type { FormatSupport } from './formats/support.ts';

/** Probing asks them in this order. */
export const formats: readonly FormatSupport[] = [qcow2Support, luksSupport, rawSupport];

/** The format called `name`, if the command knows it. */
export function supportNamed(name: string): FormatSupport | undefined {
  return formats.find((support) => support.format.name === name);
}
