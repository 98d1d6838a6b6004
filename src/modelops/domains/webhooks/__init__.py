"""Webhooks: a project's events, told to addresses that its administrators name.

What belongs here: subscriptions, their secrets, and deliveries with what came of each attempt. What never does: deciding
what an event means, or a call to an address that no webhook names. No other domain imports this one; it reads the stream.
"""
