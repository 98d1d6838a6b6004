"""The allocator: who is admitted, on what, and who gives way. A pure function of a snapshot.

What belongs here: quotas and their borrowing, budgets, the order of queues, preemption, the placement of shares on devices, the
reasons why something waits, and simulations of all that in virtual time. What never does: rows, requests, clocks, processes.

Terms and semantics are those of Kueue (https://kueue.sigs.k8s.io/docs/concepts/). All quantities are integers, in thousandths
where people write fractions (one CPU, GPU or share is 1000); all times are seconds since the epoch.

The ways in, from `modelops.domains.compute.allocator.engine`:

- `decide(snapshot, now) -> Decisions`: all cycles until nothing changes any more, on a fresh engine. What the control plane
  calls within the transaction in which it loaded the snapshot and writes the decisions.
- `Engine(snapshot)`: the same kept up to date. `submit(workload)`, `withdraw(key)`, `release(key)` (it ended, or its eviction is
  done), `cycle(now) -> Decisions` (one head of every queue), `settle(now) -> Decisions` (cycles until nothing changes),
  `snapshot() -> Snapshot`.
- `explaining.why(engine, key) -> Explanation`: why a workload waits, and what would let it run.
"""
