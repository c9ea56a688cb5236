/** Runs the laws of disks on an implementation, one test a law. */
import { describe, test } from 'node:test';
import { BLOCK_LAWS, type BlockLawName, type BlockSubject, checkLaw } from './block-laws.ts';

/** An implementation to test. */
export interface BlockSuite {
  /** For the titles. */
  readonly name: string;
  /** A fresh disk of at least 200,000 bytes; better of a size that is no multiple of anything. */
  readonly open: () => Promise<BlockSubject>;
  /** Laws that cannot hold for it. */
  readonly skip?: readonly { readonly law: BlockLawName; readonly reason: string }[];
  /** Part of the options of `node:test`, from `requires`. */
  readonly needs?: { readonly skip?: string };
}

/** Defines the tests. Law by law: see block-laws.ts. */
export function blockSuite(suite: BlockSuite): void {
  describe(suite.name, suite.needs ?? {}, () => {
    for (const name of Object.keys(BLOCK_LAWS) as BlockLawName[]) {
      const law = BLOCK_LAWS[name];
      const skipped = suite.skip?.find((one) => one.law === name);
      test(law.title, skipped ? { skip: skipped.reason } : {}, () => checkLaw(law, suite.open));
    }
  });
}
