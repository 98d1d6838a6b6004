"""What people import: `Client` over every domain, and the toolkit classes on top of it, a file a domain.

What belongs here: conveniences for people's own programs. What never does: anything of the control plane; the same code runs
against a platform in this process or over the network.
"""
