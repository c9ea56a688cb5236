/**
 * The kinds of objects that `--object` can make. A new kind is a file beside this one and a line here.
 */
import type { Objects, UserObject } from './objects.ts';

/** What a property takes: any text, a switch, a whole number, a list, or one of some words. */
export type PropertyType = 'string' | 'boolean' | 'integer' | 'list' | readonly string[];

/** A kind of object. */
export interface ObjectKind {
  /** What it can be told, under QEMU's names. */
  readonly properties: Readonly<Record<string, PropertyType>>;
  /**
   * Judges an object as it is made; `others` are those made before it.
   * @param written how it was written, for errors
   * @throws {CommandError}
   */
  check?(object: UserObject, others: Objects, written: { readonly isJson: boolean }): void;
}

/** The kinds there are. */
export interface KnownKinds {
  readonly kinds: Readonly<Record<string, () => Promise<ObjectKind>>>;
  /** Kinds that QEMU's tools know and that cannot be made here. */
  readonly absentKinds: ReadonlySet<string>;
}

/** Every kind, by the name that `--object` takes. */
export const kinds: KnownKinds['kinds'] = {
  'authz-list': async () => (await import('./authz.ts')).authzList,
  'authz-list-file': async () => (await import('./authz.ts')).authzListFile,
  'authz-simple': async () => (await import('./authz.ts')).authzSimple,
  secret: async () => (await import('./secret.ts')).secretKind,
  'tls-creds-psk': async () => (await import('./tls-creds.ts')).tlsCredsPsk,
  'tls-creds-x509': async () => (await import('./tls-creds.ts')).tlsCredsX509,
};

/** Kinds that QEMU's tools know and that cannot be made here. */
export const absentKinds: KnownKinds['absentKinds'] = new Set([
  'authz-pam',
  'iothread',
  'main-loop',
  'pr-manager-helper',
  'secret_keyring',
  'thread-context',
  'throttle-group',
  'tls-cipher-suites',
  'tls-creds-anon',
]);
