"""Objects in a bucket of S3, or of a service that speaks its protocol.

What belongs here: the protocol (`objects`), its streams (`body`) and its failures (`failures`). What never does: the form of
a stored blob, which is `modelops.adapters.objects`'s.
"""

from modelops.adapters.s3.objects import S3Objects

__all__ = ["S3Objects"]
