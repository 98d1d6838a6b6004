"""The control plane's spine: context, unit of work, outbox, leases, reconcilers, and the way a domain enters.

What belongs here: mechanisms that every domain stands on and that know none of them. What never does: a capability, or
anything a client or a runtime would import.
"""
