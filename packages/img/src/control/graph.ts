/**
 * The disks of a server that is steered, and the names by which commands find their images.
 *
 * Every image of every disk is a node. A disk goes by the name of its top image, whichever that is at the moment.
 */
import type { HostSource } from '@strata/block';
import type { Chain, WritableChain } from '@strata/chain';
import { LiveDisk, type LiveNode, NodeNames, nodesOf } from '@strata/live';
import { refusal } from '@strata/qmp';

/** An image, and where it stands. */
export interface FoundNode {
  readonly disk: LiveDisk;
  readonly node: LiveNode;
  /** 0: the top of its disk. */
  readonly depth: number;
}

/** The disks in use. Disposing of it closes them all. */
export class Graph {
  readonly names = new NodeNames();
  readonly #disks = new Set<LiveDisk>();
  readonly #fileNames = new WeakMap<HostSource, string>();

  /** All disks, in the order in which they came. */
  get disks(): readonly LiveDisk[] {
    return [...this.#disks];
  }

  /**
   * Takes over an opened chain as a disk.
   * @param name of its top image; generated if not given @param below the disk that it stands on
   * @throws {DiskError} invalid, exists for the name: the chain is still the caller's then
   */
  adopt(chain: Chain | WritableChain, name: string | undefined, below?: LiveDisk): LiveDisk {
    const disk = new LiveDisk(nodesOf(chain, this.names, name), below);
    this.#disks.add(disk);
    return disk;
  }

  /** Closes a disk that nothing uses any more. @throws what closing rejects with, the disk being gone all the same */
  async remove(disk: LiveDisk): Promise<void> {
    const { nodes } = disk;
    this.#disks.delete(disk);
    try {
      await disk[Symbol.asyncDispose]();
    } finally {
      for (const { name } of nodes) this.names.free(name);
    }
  }

  /** The image of this name, if there is one. */
  find(name: string): FoundNode | undefined {
    for (const disk of this.#disks) {
      const depth = disk.nodes.findIndex((node) => node.name === name);
      const node = disk.nodes[depth];
      if (node !== undefined) return { disk, node, depth };
    }
    return undefined;
  }

  /** The image of this name. @throws {QmpError} as commands do that take a device or a node */
  get(name: string): FoundNode {
    const found = this.find(name);
    if (found === undefined) throw refusal(`Cannot find device='${name}' nor node-name='${name}'`);
    return found;
  }

  /** The name of the node that an image's file is. */
  fileName(host: HostSource): string {
    const known = this.#fileNames.get(host);
    if (known !== undefined) return known;
    const name = this.names.generate();
    this.#fileNames.set(host, name);
    return name;
  }

  /** Gives an image's file the name that it was added under. */
  nameFile(host: HostSource, name: string): void {
    this.#fileNames.set(host, name);
  }

  /** Closes all, those first that stand on others; the first failure is told when all have been tried. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    while (this.#disks.size > 0) {
      for (const disk of this.disks.filter(({ above }) => above.size === 0)) {
        await this.remove(disk).catch((error: unknown) => failures.push(error));
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
