"""Jobs and workloads on machines that agents look after, where the platform runs as several processes.

What belongs here: the ports `JobBackend` and `Deployer` by way of the database, which controllers use, and the agent that does on
its machine what stands there. What never does: how a process is run (`adapters.local`), and a decision of what should run.
"""
