/** Text from a peer, made fit for a message: short, on one line, nothing that a terminal obeys. */

/** Controls, format characters (which reorder text), line and paragraph separators, halves of pairs. */
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** The first `limit` characters of `text`, with an ellipsis if there are more; what is not printable as `\u{hex}`. */
export function printable(text: string, limit = 80): string {
  const characters = Array.from(text.slice(0, 2 * limit + 2));
  const shown = characters.slice(0, limit).join('');
  const escaped = shown.replace(unprintable, (found) => `\\u{${found.codePointAt(0)?.toString(16)}}`);
  return characters.length > limit ? `${escaped}...` : escaped;
}
