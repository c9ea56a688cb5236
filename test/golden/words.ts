/** Splits a line of a golden script into words, as a shell would: 'as it is', "with \t and \u00e9", \ before one character. */

/** @throws {SyntaxError} if a quote is not closed */
export function splitWords(line: string): readonly string[] {
  const words: string[] = [];
  const pattern = /\s+|((?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+)|(.)/gsu;
  for (const [, word, stray] of line.matchAll(pattern)) {
    if (stray !== undefined) throw new SyntaxError(`a quote is not closed: ${line}`);
    if (word !== undefined) words.push(unquote(word));
  }
  return words;
}

function unquote(word: string): string {
  return word.replace(/\\(.)|'([^']*)'|("(?:[^"\\]|\\.)*")/gsu, (_, escaped, single, double) => {
    if (escaped !== undefined) return escaped;
    return single ?? (JSON.parse(double) as string);
  });
}
