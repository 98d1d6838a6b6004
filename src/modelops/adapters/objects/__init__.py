"""Blobs as objects under names: compressed, encrypted, or as they are, in whatever keeps objects.

What belongs here: the form of a stored blob and its keys (`box`, `keys`), the blob store over any `Objects` (`store`), and
objects that are files of this machine (`files`). What never does: the protocol of a particular service.
"""

from modelops.adapters.objects.files import FileObjects
from modelops.adapters.objects.keys import Keyring
from modelops.adapters.objects.stacked import StackedBlobStore
from modelops.adapters.objects.store import ObjectBlobStore

__all__ = ["FileObjects", "Keyring", "ObjectBlobStore", "StackedBlobStore"]
