/**
 * Options of one node of an image, as its driver takes them: each by its name and its type, and none is left over.
 */
import { DiskError, parseSize } from '@strata/block';
import { suffixHint } from '../creation.ts';
import type { Objects } from '../objects/objects.ts';
import type { Scalar } from './flat-options.ts';

/** The options that a driver has not taken yet. Taking one that was not given yields undefined. */
export interface NodeOptions {
  /** What `--object` defined. */
  readonly objects: Objects;
  text(name: string): string | undefined;
  switch(name: string): boolean | undefined;
  bytes(name: string): number | undefined;
  /** One of some words. */
  choice<Word extends string>(name: string, words: readonly Word[]): Word | undefined;
  /** The names that were not taken. */
  rest(): readonly string[];
}

/** The options as something to take them out of. Every reader throws a DiskError. */
export function nodeOptions(given: ReadonlyMap<string, Scalar>, objects: Objects): NodeOptions {
  const left = new Map(given);
  const take = (name: string): Scalar => {
    const value = left.get(name);
    left.delete(name);
    return value;
  };
  const text = (name: string): string | undefined => {
    const value = take(name);
    return value === undefined ? undefined : String(value);
  };
  return {
    objects,
    text,
    switch: (name) => {
      const value = take(name);
      return value === undefined ? undefined : readSwitch(name, value);
    },
    bytes: (name) => {
      const value = text(name);
      return value === undefined ? undefined : readBytes(name, value);
    },
    choice: (name, words) => {
      const value = text(name);
      const word = words.find((each) => each === value);
      if (value !== undefined && word === undefined)
        throw new DiskError('invalid', `invalid parameter value: ${value}`);
      return word;
    },
    rest: () => [...left.keys()],
  };
}

/** A switch: JSON's own, or `on` and `off`. @throws {DiskError} */
export function readSwitch(name: string, value: Scalar): boolean {
  if (typeof value === 'boolean') return value;
  if (value === 'on' || value === 'off') return value === 'on';
  throw new DiskError('invalid', `Parameter '${name}' expects 'on' or 'off'`);
}

function readBytes(name: string, text: string): number {
  const size = parseSize(text);
  if (typeof size === 'number') return size;
  const sentence = `Parameter '${name}' expects a non-negative number below 2^64`;
  throw new DiskError('invalid', `${sentence}\n${suffixHint.trimEnd()}`);
}
