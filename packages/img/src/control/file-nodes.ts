/**
 * Files that were added as nodes by themselves, and those of them that another node has taken as its file.
 *
 * QEMU opens a file once and lets nodes share it. Here a file is opened by whoever uses it, with the locks that the use
 * calls for: a file that a format takes is closed, opened anew by the format, and opened by itself again when the
 * format's disk is gone. Between the two it is nobody's for a moment.
 */
import type { LiveDisk } from '@strata/live';
import { refusal } from '@strata/qmp';
import type { BlockdevOptions } from './blockdev-options.ts';

/** A file as it was added. */
export interface FileNode {
  readonly name: string;
  readonly options: BlockdevOptions;
}

/** The file nodes of one server. */
export class FileNodes {
  readonly #alone = new Map<LiveDisk, FileNode>();
  readonly #taken = new Map<string, { readonly node: FileNode; readonly by: LiveDisk }>();

  /** `disk` is this file by itself. */
  add(disk: LiveDisk, node: FileNode): void {
    this.#alone.set(disk, node);
  }

  /** The file that `disk` is. @throws {QmpError} if it is more than a file */
  of(disk: LiveDisk): FileNode {
    const node = this.#alone.get(disk);
    if (node !== undefined) return node;
    throw refusal(`Node '${disk.top.name}' is no file: standing on it as on one is not supported`);
  }

  /** True while another node has the file of this name. */
  isTaken(name: string): boolean {
    return this.#taken.has(name);
  }

  /** `by` has the file from now on. */
  take(node: FileNode, by: LiveDisk): void {
    this.#taken.set(node.name, { node, by });
  }

  /** `disk` is gone. Returns the files that it had. */
  forget(disk: LiveDisk): readonly FileNode[] {
    this.#alone.delete(disk);
    const had = [...this.#taken.values()].filter(({ by }) => by === disk).map(({ node }) => node);
    for (const { name } of had) this.#taken.delete(name);
    return had;
  }
}
