/**
 * Waiting for several requests at once, and for all of them.
 *
 * After a failure the others are waited for as well: a request still under way could land on bytes that have
 * been given to something else meanwhile.
 */

/** Resolves when every promise has resolved. Rejects, once all have settled, with the first one's reason. */
export async function allOf(promises: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(promises)) {
    if (outcome.status === 'rejected') throw outcome.reason;
  }
}
