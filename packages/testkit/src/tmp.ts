/** A temporary folder that removes itself. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder of the test's own. */
export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
  /** The path of `name` inside the folder. */
  file(name: string): string;
}

/** A new empty folder, inside `parent`; `await using` removes it with all that is in it. */
export async function temporaryFolder(parent = tmpdir()): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(parent, 'strata-'));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
