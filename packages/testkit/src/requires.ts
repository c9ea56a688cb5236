/**
 * What a test needs beside Node: the real tools of the field.
 *
 * On a developer's machine a missing tool skips the test and says which tool. With CI=true a missing tool
 * is a failure, so that a test cannot disappear unseen.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Part of the options of `node:test`'s `test`. */
export interface Requirement {
  readonly skip?: string;
}

/**
 * The options for a test that runs `tools`.
 *
 * @throws {Error} with CI=true if a tool is missing
 */
export function requires(...tools: readonly string[]): Requirement {
  const missing = tools.filter((tool) => !isInstalled(tool));
  if (missing.length === 0) return {};
  const reason = `not installed: ${missing.join(', ')} (node scripts/peers.mjs installs the peers)`;
  if (process.env['CI'] === 'true') throw new Error(reason);
  return { skip: reason };
}

function isInstalled(tool: string): boolean {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  return [...folders, '/usr/sbin', '/sbin'].some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
