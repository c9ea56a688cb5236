/**
 * The places that a name can begin with, and how to go about them. A new place for bytes is a line in `schemes`.
 *
 * What a person types may name any of them; what an image names may be a file of this machine and nothing else.
 */
import { DiskError } from '@strata/block';
import { type Places, schemeOf } from '@strata/chain';
import { type FileManner, filePlaces } from './file.ts';

/** A name without a scheme is a file. */
const schemes: Readonly<Record<string, (manner: FileManner) => Promise<Places>>> = {
  file: async (manner) => filePlaces(manner),
  nbd: async (manner) => (await import('./nbd.ts')).nbdPlaces(manner),
  'nbd+unix': async (manner) => (await import('./nbd.ts')).nbdPlaces(manner),
  nbds: async (manner) => (await import('./nbd.ts')).nbdPlaces(manner),
  'nbds+unix': async (manner) => (await import('./nbd.ts')).nbdPlaces(manner),
};

/** How `name` says where the image is: `file`, or what stands before its colon. @throws {DiskError} not-supported */
export function schemeName(name: string): string {
  const scheme = schemeOf(name) ?? 'file';
  if (Object.hasOwn(schemes, scheme)) return scheme;
  throw new DiskError('not-supported', `Unknown protocol '${scheme}'`, { path: name });
}

/** The path in a file's name. `file:` in front of it is a way to say that a colon follows; so is `./`. */
export function pathOf(name: string): string {
  if (!name.startsWith('file:')) return name;
  const path = name.slice('file:'.length);
  return schemeOf(path) === undefined ? path : `./${path}`;
}

/** Opens what a person typed. */
export function typedPlaces(manner: FileManner): Places {
  const placeOf = async (name: string): Promise<Places> => {
    const open = schemes[schemeName(name)];
    if (name === '') throw new DiskError('invalid', "The 'file' block driver requires a file name");
    return (open as NonNullable<typeof open>)(manner);
  };
  return {
    openSource: async (name) => (await placeOf(name)).openSource(pathOf(name)),
    openFile: async (name) => (await placeOf(name)).openFile(pathOf(name)),
  };
}
