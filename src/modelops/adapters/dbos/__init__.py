"""Durable stories on DBOS.

What is kept is DBOS's: its system database with the protocol of it, checkpoints and tokens of ownership, so that its own tools
read our stories. DBOS's runner is not used: it is one to a process, has six threads that poll, recovers its own executor's
stories alone, and holds a lease on nothing. Ours has one loop, one thread that keeps the lease, and any number of platforms
in a process.
"""
