"""Scanning: what the files of a package would import and run when a loader opens them, told without running any of it.

What belongs here: the walkers of each format, the names that are harmless, and the verdict on what was found. What never
does: anything that loads a model, a library of models, or the database; the service keeps what was found.

The scan judges form, not intent. Code that goes along by value can do whatever its author wrote, so it is only told, and
accepted where it was declared; what else may be called is held to a list of names. Signatures say whom one trusts.
"""

from modelops.domains.models.scanning.findings import SCANNER, FileScan, Reading, Unreadable
from modelops.domains.models.scanning.formats import scan_file
from modelops.domains.models.scanning.verdict import PackageScan, judge, readings

__all__ = ["SCANNER", "FileScan", "PackageScan", "Reading", "Unreadable", "judge", "readings", "scan_file"]
