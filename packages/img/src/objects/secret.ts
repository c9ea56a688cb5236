/**
 * Secrets: `secret,id=ID,data=TEXT|file=PATH,format=raw|base64`, in the clear or under another secret (`keyid`, `iv`).
 *
 * A secret is read when it is defined, and its bytes are kept apart from the object: nothing that prints an object
 * prints them, and no sentence about a secret holds a part of it.
 */
import { readFileSync } from 'node:fs';
import { DiskError, errnoSentence } from '@strata/block';
import { CommandError } from '../report.ts';
import type { ObjectKind } from './kinds.ts';
import type { Objects, UserObject } from './objects.ts';

export const secretKind: ObjectKind = {
  properties: { data: 'string', file: 'string', format: ['raw', 'base64'], iv: 'string', keyid: 'string' },
  check: (object, others) => void contents.set(object, readSecret(object, others)),
};

/** What secrets hold. */
const contents = new WeakMap<UserObject, Buffer>();

/**
 * The bytes of the secret called `id`, which are text. They are the secret's own: do not change them.
 *
 * @throws {DiskError} invalid if there is no such secret, or it is no text
 */
export function passphraseOf(objects: Objects, id: string): Uint8Array {
  const found = find(objects, id);
  if (typeof found === 'string') throw new DiskError('invalid', found);
  if (found.includes(0) || !isText(found))
    throw new DiskError('invalid', `Data from secret ${id} is not valid UTF-8`);
  return found;
}

/** What the secret holds, or a sentence that says why there is no such secret. */
function find(objects: Objects, id: string): Buffer | string {
  const object = objects.find(id);
  if (object === undefined) return `No secret with id '${id}'`;
  return contents.get(object) ?? `Object with id '${id}' is not a secret`;
}

function isText(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function readSecret({ properties }: UserObject, others: Objects): Buffer {
  const text = (name: string): string | undefined => {
    const value = properties.get(name);
    return value === undefined ? undefined : String(value);
  };
  const given = bytesGiven(text('data'), text('file'));
  const isBase64 = text('format') === 'base64';
  const keyId = text('keyid');
  const bytes = isBase64 ? decodeBase64(given) : given;
  if (keyId === undefined) return bytes;
  const key = find(others, keyId);
  if (typeof key === 'string') throw new CommandError(key);
  return decipher(bytes, key, text('iv'));
}

function bytesGiven(data: string | undefined, file: string | undefined): Buffer {
  if (data !== undefined && file !== undefined)
    throw new CommandError("'file' and 'data' are mutually exclusive");
  if (data !== undefined) return Buffer.from(data, 'utf8');
  if (file === undefined) throw new CommandError("Either 'file' or 'data' must be provided");
  try {
    return readFileSync(file);
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    const step = code === 'EISDIR' ? 'Error reading file' : 'Failed to open file';
    throw new CommandError(`Unable to read ${file}: ${step} “${file}”: ${errnoSentence(code)}`);
  }
}

function decodeBase64(text: Uint8Array): Buffer {
  const letters = Buffer.from(text).toString('latin1');
  if (!/^[A-Za-z0-9+/=\n]*$/.test(letters)) throw new CommandError('Base64 data contains invalid characters');
  return Buffer.from(letters, 'base64');
}

/** AES-256 in CBC mode, filled up to whole blocks. */
function decipher(bytes: Uint8Array, key: Uint8Array, ivText: string | undefined): Buffer {
  if (key.length !== 32) throw new CommandError('Key should be 32 bytes in length');
  if (ivText === undefined) throw new CommandError('IV is required to decrypt secret');
  const iv = decodeBase64(Buffer.from(ivText, 'utf8'));
  if (iv.length !== 16) throw new CommandError(`IV should be 16 bytes in length not ${iv.length}`);
  if (bytes.length % 16 !== 0) {
    throw new CommandError(`Length ${bytes.length} must be a multiple of block size 16`);
  }
  const { createDecipheriv } = process.getBuiltinModule('node:crypto');
  const cipher = createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false);
  const clear = cipher.update(bytes);
  const padding = clear.at(-1) ?? 0;
  if (padding === 0 || padding > 16) {
    throw new CommandError(`Incorrect number of padding bytes (${padding}) found on decrypted data`);
  }
  return clear.subarray(0, clear.length - padding);
}
