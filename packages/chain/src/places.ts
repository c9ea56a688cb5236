/**
 * Where the images of a chain are kept, and the locks that keep two programs from spoiling one of them.
 *
 * The chain opens names through `Places`, so that it knows neither files nor URIs. A place is opened first and
 * locked when its format is known, because the format decides which locks are right: a format with tables of
 * its own bears one writer only.
 */
import type { HostFile, HostSource } from '@strata/block';

/** How an opened image will be used. */
export interface FileUse {
  readonly access: 'read' | 'write';
  /** The format has tables of its own: no writer beside another user. */
  readonly exclusive: boolean;
  /** The caller takes the risk of reading while another program writes (`-U`). */
  readonly share: boolean;
  /** It holds the guest data of an image, and no tables. */
  readonly isData?: boolean;
}

/** An opened image file. Disposing of `host` closes it and gives up its locks. */
export interface Place<Host extends HostSource> {
  readonly host: Host;
  /** Equal for two names of one file; undefined where that cannot be told. */
  readonly identity: string | undefined;
  /** The file behind the name, every link followed; undefined where there is no file. */
  readonly realPath: string | undefined;
  /** Takes the locks that the use calls for. @throws {DiskError} busy */
  lock(use: FileUse): Promise<void>;
}

/** Opens names. */
export interface Places {
  /** @throws {DiskError} not-found, denied, not-supported, io */
  openSource(name: string): Promise<Place<HostSource>>;
  /** @throws {DiskError} not-found, denied, read-only, not-supported, io */
  openFile(name: string): Promise<Place<HostFile>>;
}
