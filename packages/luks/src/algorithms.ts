/**
 * The ciphers, modes, IV generators and hashes that a header can name, as QEMU names them.
 *
 * A header may name what this machine's OpenSSL has not: `info` tells it all the same, and only opening the
 * data is refused. A key is as long as its cipher's; in XTS there are two of them.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Cipher and hash specification registry".
 */
import { DiskError } from '@strata/block';

/** Ciphers with their key lengths in bytes. `family` is what a header calls them. */
const CIPHERS = {
  'aes-128': { family: 'aes', keyBytes: 16 },
  'aes-192': { family: 'aes', keyBytes: 24 },
  'aes-256': { family: 'aes', keyBytes: 32 },
  'cast5-128': { family: 'cast5', keyBytes: 16 },
  'serpent-128': { family: 'serpent', keyBytes: 16 },
  'serpent-192': { family: 'serpent', keyBytes: 24 },
  'serpent-256': { family: 'serpent', keyBytes: 32 },
  'twofish-128': { family: 'twofish', keyBytes: 16 },
  'twofish-192': { family: 'twofish', keyBytes: 24 },
  'twofish-256': { family: 'twofish', keyBytes: 32 },
} as const;

/** Bytes of a hash. */
const HASHES = { md5: 16, sha1: 20, sha224: 28, sha256: 32, sha384: 48, sha512: 64, ripemd160: 20 } as const;

const MODES = ['ecb', 'cbc', 'xts', 'ctr'] as const;
const IV_GENERATORS = ['plain', 'plain64', 'essiv'] as const;

export type CipherName = keyof typeof CIPHERS;
export type CipherMode = (typeof MODES)[number];
export type IvGenerator = (typeof IV_GENERATORS)[number];
export type HashName = keyof typeof HASHES;

/** How the sectors of a disk are enciphered. */
export interface CipherSpec {
  readonly cipher: CipherName;
  readonly mode: CipherMode;
  readonly ivGenerator: IvGenerator;
  /** Always there for `essiv`; for the others it means nothing. */
  readonly ivHash: HashName | undefined;
}

/** Bytes of a key for it. */
export function keyBytesOf({ cipher, mode }: Pick<CipherSpec, 'cipher' | 'mode'>): number {
  return CIPHERS[cipher].keyBytes * (mode === 'xts' ? 2 : 1);
}

/** Bytes of what the hash makes. */
export const hashBytes = (hash: HashName): number => HASHES[hash];

/** What a header calls the cipher. */
export const familyOf = (cipher: CipherName): string => CIPHERS[cipher].family;

const isName = <Name extends string>(names: readonly Name[], text: string): text is Name =>
  (names as readonly string[]).includes(text);
const cipherNames = Object.keys(CIPHERS) as CipherName[];
const hashNames = Object.keys(HASHES) as HashName[];

const SPEC = 'LUKS1 On-Disk Format Specification, "Cipher and hash specification registry"';
const unknown = (message: string): DiskError => new DiskError('not-supported', message, { spec: SPEC });

/** The hash of that name. @throws {DiskError} not-supported */
export function hashNamed(name: string): HashName {
  if (isName(hashNames, name)) return name;
  throw unknown(`Hash algorithm ${printable(name)} not supported`);
}

/**
 * What a header says with a cipher's family, a mode such as `cbc-essiv:sha256`, and the length of its key.
 *
 * @throws {DiskError} corrupt, not-supported
 */
export function parseCipher(family: string, modeText: string, keyBytes: number): CipherSpec {
  const [mode = '', rest] = cutAt(modeText, '-');
  if (rest === undefined)
    throw new DiskError('corrupt', `Unexpected cipher mode string format '${printable(modeText)}'`, {
      spec: SPEC,
    });
  const [generator = '', hash] = cutAt(rest, ':');
  const ivHash = hash === undefined ? undefined : hashNamed(hash);
  if (!isName(MODES, mode)) throw unknown(`Cipher mode ${printable(mode)} not supported`);
  const length = mode === 'xts' ? keyBytes / 2 : keyBytes;
  const cipher = cipherNames.find(
    (name) => CIPHERS[name].family === family && CIPHERS[name].keyBytes === length,
  );
  if (cipher === undefined)
    throw unknown(`Algorithm '${printable(family)}' with key size ${Math.floor(length)} bytes not supported`);
  if (!isName(IV_GENERATORS, generator))
    throw unknown(`IV generator '${printable(generator)}' not supported`);
  if (generator === 'essiv' && ivHash === undefined)
    throw new DiskError('corrupt', 'Missing IV generator hash specification', { spec: SPEC });
  const spec = { cipher, mode, ivGenerator: generator, ivHash };
  checkEssiv(spec);
  return spec;
}

/** The mode as a header spells it. */
export function modeText({ mode, ivGenerator, ivHash }: CipherSpec): string {
  return `${mode}-${ivGenerator}${ivHash === undefined ? '' : `:${ivHash}`}`;
}

/** ESSIV enciphers with a key that a hash made, so that there must be a cipher with a key of that length. */
function checkEssiv(spec: CipherSpec): void {
  if (spec.ivGenerator !== 'essiv' || spec.ivHash === undefined) return;
  const { family } = CIPHERS[spec.cipher];
  const length = HASHES[spec.ivHash];
  if (cipherNames.some((name) => CIPHERS[name].family === family && CIPHERS[name].keyBytes === length))
    return;
  const name = { aes: 'AES', serpent: 'Serpent', twofish: 'Twofish', cast5: 'CAST5' }[family];
  throw unknown(`No ${name} cipher with key size ${length} available`);
}

/** What a person may ask of a new disk, by the names of qemu-img. Undefined: the standard. */
export interface CipherWish {
  readonly cipherAlg?: string | undefined;
  readonly cipherMode?: string | undefined;
  readonly ivgenAlg?: string | undefined;
  readonly ivgenHashAlg?: string | undefined;
}

/** AES-256 in XTS with `plain64`, unless told otherwise. @throws {DiskError} invalid, not-supported */
export function chooseCipher(wish: CipherWish): CipherSpec {
  const { cipherAlg = 'aes-256', cipherMode = 'xts', ivgenAlg = 'plain64', ivgenHashAlg } = wish;
  const others = ['des', '3des'];
  if (others.includes(cipherAlg)) throw unknown(`Algorithm '${cipherAlg}' not supported`);
  const cipher = accepted('cipher-alg', cipherNames, cipherAlg);
  const mode = accepted('cipher-mode', MODES, cipherMode);
  const ivGenerator = accepted('ivgen-alg', IV_GENERATORS, ivgenAlg);
  const hash = ivgenHashAlg ?? (ivGenerator === 'essiv' ? 'sha256' : undefined);
  const ivHash = hash === undefined ? undefined : accepted('ivgen-hash-alg', hashNames, hash);
  const spec = { cipher, mode, ivGenerator, ivHash };
  checkEssiv(spec);
  return spec;
}

/** The hash a person asks for; SHA-256 if none. @throws {DiskError} invalid */
export function chooseHash(name = 'sha256'): HashName {
  return accepted('hash-alg', hashNames, name);
}

function accepted<Name extends string>(parameter: string, names: readonly Name[], value: string): Name {
  if (isName(names, value)) return value;
  throw new DiskError('invalid', `Parameter '${parameter}' does not accept value '${value}'`);
}

function cutAt(text: string, mark: string): readonly [string, string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** Text of a header for a message: no control characters. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}
