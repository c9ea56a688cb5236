/**
 * Whether what clients saw of one sector could have come from one sector that does one thing at a time.
 *
 * Every write has a value of its own, so which write a read saw is known, and the question can be answered in
 * n log n: a write with its reads is a cluster. The time in which its value must have been there reaches from the first
 * end of one of its operations to the last beginning of one (a forward zone), unless some moment lies in all of them (a
 * backward zone). Two forward zones must not overlap, and no backward zone may lie inside a forward one.
 *
 * Spec: Gibbons and Korach, "Testing Shared Memories" (1997), section 4.1
 */

/** What one client did to the sector, with the moments before and after by one clock. */
export interface Operation {
  readonly kind: 'read' | 'write';
  /** What was written, by no other write, or what was read; 0 is what stood there first. */
  readonly value: number;
  readonly start: number;
  readonly end: number;
}

interface Zone {
  readonly value: number;
  readonly isForward: boolean;
  readonly from: number;
  readonly to: number;
}

/** Why `operations` are not linearizable, in words; undefined if they are. */
export function violation(operations: readonly Operation[]): string | undefined {
  const clusters = new Map<number, Operation[]>([[0, [{ kind: 'write', value: 0, start: -2, end: -1 }]]]);
  for (const operation of operations) {
    if (operation.kind !== 'write') continue;
    if (clusters.has(operation.value)) throw new RangeError(`${operation.value} was written twice`);
    clusters.set(operation.value, [operation]);
  }
  for (const operation of operations) {
    if (operation.kind !== 'read') continue;
    const cluster = clusters.get(operation.value);
    const write = cluster?.[0];
    if (cluster === undefined || write === undefined) return `${operation.value} was read and never written`;
    if (operation.end < write.start) return `${operation.value} was read before it was written`;
    cluster.push(operation);
  }
  return overlap([...clusters.values()].map(zoneOf));
}

function zoneOf(cluster: readonly Operation[]): Zone {
  const firstEnd = Math.min(...cluster.map(({ end }) => end));
  const lastStart = Math.max(...cluster.map(({ start }) => start));
  return {
    value: (cluster[0] as Operation).value,
    isForward: firstEnd < lastStart,
    from: Math.min(firstEnd, lastStart),
    to: Math.max(firstEnd, lastStart),
  };
}

function overlap(zones: readonly Zone[]): string | undefined {
  const forward = zones.filter(({ isForward }) => isForward).sort((a, b) => a.from - b.from);
  for (const [index, zone] of forward.entries()) {
    const next = forward[index + 1];
    if (next !== undefined && next.from < zone.to) {
      return `${zone.value} was still seen at ${zone.to}, and ${next.value} already at ${next.from}`;
    }
  }
  for (const inner of zones.filter(({ isForward }) => !isForward)) {
    const outer = forward.find(({ from, to }) => from < inner.from && inner.to < to);
    if (outer) {
      return `${inner.value} was there from ${inner.from} to ${inner.to}, while ${outer.value} was from ${outer.from} to ${outer.to}`;
    }
  }
  return undefined;
}
