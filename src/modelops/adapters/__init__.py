"""The outside world, made to fit the platform's ports: storage, processes, clusters, brokers.

What belongs here: one folder for each technology, whose classes implement ports of `modelops.contracts.ports` and pass
the contract suites of `modelops.testing`. What never does: a rule of the business, a table, a route, or knowledge of a
domain. An adapter may be replaced by another without anybody above noticing more than its speed.
"""
