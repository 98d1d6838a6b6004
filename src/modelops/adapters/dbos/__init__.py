"""Durable stories on DBOS.

What belongs here: DBOS's system database as the place where stories are kept (`store`: its tables, its protocol of checkpoints
and its tokens of ownership, so that its own tools read our stories), how one is told (`telling`), and the executor with its
lease (`executor`, `tenure`). What never does: what a story is about.

DBOS's own runner is not used. It is one to a process, polls with six threads, recovers its own executor's stories alone, and
holds no lease; ours has a loop, a thread that keeps the lease, and any number of platforms in a process.
"""
