/**
 * Names of images as a person types them: a path, a URI, `json:{...}`, or with `--image-opts` a list of options.
 */
import { DiskError } from '@strata/block';
import { UsageError } from '../report.ts';
import { flatten } from './flat-options.ts';
import { type FormatNode, imageNode } from './image-node.ts';
import { JsonTextError, parseJsonText } from './json-text.ts';
import { parseOptionString } from './option-string.ts';
import { isMembers, type Value } from './value.ts';

/** How names are to be read. */
export interface NameManner {
  /** `--image-opts`. */
  readonly imageOptions?: boolean | undefined;
  /** `-f`. */
  readonly format?: string | undefined;
}

const prefix = 'json:';

/**
 * The image that `text` describes; undefined if it is a path or a URI.
 *
 * @throws {UsageError} if a format is given beside options @throws {DiskError} without the name
 */
export function describedImage(text: string, { imageOptions, format }: NameManner): FormatNode | undefined {
  if (imageOptions) {
    if (format !== undefined) throw new UsageError('--image-opts and --format are mutually exclusive');
    return imageNode(parseOptionString(text));
  }
  if (!text.startsWith(prefix)) return undefined;
  const options = new Map(flatten(membersOf(text.slice(prefix.length))));
  if (format !== undefined) options.set('driver', format);
  return imageNode(options);
}

function membersOf(text: string): ReadonlyMap<string, Value> {
  try {
    const value = parseJsonText(text);
    if (isMembers(value)) return value;
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    throw new DiskError('invalid', `Could not parse the JSON options: ${error.message}`, { cause: error });
  }
  throw new DiskError('invalid', 'Invalid JSON object given');
}
