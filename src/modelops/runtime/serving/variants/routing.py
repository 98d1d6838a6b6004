"""Whose a request is: among the variants that answer callers, by a header that names one, by a key, or by chance."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

_SHARES = 100.0


def variant_of(shares: Mapping[str, float], salt: str, value: str) -> str:
    """Return the variant of whoever sends a value, by weighted rendezvous hashing.

    Each variant draws a number by hashing its name with the value, uniform on (0, 1); the one with the least
    `-log(number) / share` wins, which each does with the probability of its share of the whole. A variant's draw depends on
    nothing but its own name and share, so raising its share wins callers for it, and lowering it sets callers of its own
    free, and no other's move between others. (Thaler and Ravishankar 1998; the weights as in Schindelhauer and
    Schomaker 2005.)

    Args:
        shares: By name; at least one is above 0.
    """
    return min(
        (name for name in shares if shares[name] > 0), key=lambda name: _distance(name, shares[name], salt, value)
    )


def _distance(name: str, share: float, salt: str, value: str) -> float:
    hashed = blake2b(digest_size=8)
    for part in (salt, name, value):
        encoded = part.encode()
        hashed.update(len(encoded).to_bytes(8, "big") + encoded)
    number = (int.from_bytes(hashed.digest(), "big") + 0.5) / 2**64
    return -math.log(number) / share


def drawn(shares: Sequence[float], chance: Callable[[], float] = random.random) -> int:
    """Return the place of one of the shares, each as likely as it is large; what the others leave is the first one's."""
    left = chance() * _SHARES
    for place in range(len(shares) - 1, 0, -1):
        left -= shares[place]
        if left < 0:
            return place
    return 0
