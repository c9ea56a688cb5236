/**
 * The names by which the images of running disks are known: chosen by people, or generated as QEMU generates them.
 *
 * A generated name begins with a character that no chosen one may begin with, so the two never meet.
 *
 * QEMU: util/id.c, id_wellformed and id_generate; block.c, bdrv_assign_node_name.
 */
import { DiskError } from '@strata/block';

/** QEMU keeps node names in 32 bytes with a NUL at the end. */
const longestName = 31;

/** The names in use by one program. */
export class NodeNames {
  readonly #taken = new Set<string>();
  #generated = 0;

  /** Takes a chosen name. @throws {DiskError} invalid for what is no name, exists */
  take(name: string): string {
    if (!/^[A-Za-z][\w.-]*$/.test(name)) throw new DiskError('invalid', `Invalid node-name: '${name}'`);
    if (this.#taken.has(name)) throw new DiskError('exists', `Duplicate nodes with node-name='${name}'`);
    if (name.length > longestName) throw new DiskError('invalid', 'Node name too long');
    this.#taken.add(name);
    return name;
  }

  /** Takes a new name, `#block` and a number. */
  generate(): string {
    for (;;) {
      const digits = Math.floor(Math.random() * 100);
      const name = `#block${this.#generated++}${String(digits).padStart(2, '0')}`;
      if (this.#taken.has(name)) continue;
      this.#taken.add(name);
      return name;
    }
  }

  /** Gives a name back. */
  free(name: string): void {
    this.#taken.delete(name);
  }
}
