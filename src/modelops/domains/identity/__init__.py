"""Identity: who calls, what they belong to, and what they may do.

What belongs here: tenants, projects, users, service accounts, keys, tokens, roles and the audit trail. What never does:
what a permission protects (each domain names its own permissions in its manifest).
"""
