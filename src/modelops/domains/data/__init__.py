"""Data: content-addressed artifacts, and dataset versions with schema and profile.

What belongs here: bytes and tables that the platform keeps, and what is known of them. What never does: what a table is
used for (training, features and monitoring own that) and where bytes lie (a blob store adapter owns that).
"""
