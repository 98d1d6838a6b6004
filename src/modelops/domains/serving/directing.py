"""Having the replicas of a workload serve what they shall, in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelops.domains.serving.replicas.control import ReplicaControl
from modelops.domains.serving.rules import Control, to_tell
from modelops.domains.serving.schemas import Replica
from modelops.domains.serving.variants import digest_of


@dataclass(frozen=True)
class Order:
    """What the replicas of a workload shall serve.

    Attributes:
        document: The revision document, as JSON, that `control` names by its digest.
        rest: The digest of what serves when nothing is rolled out; a process that ends with another one is counted.
    """

    control: Control
    document: str
    rest: str | None


def direct(
    port: ReplicaControl,
    order: Order,
    seen: Sequence[Replica],
    known: Mapping[tuple[int, int], Replica],
    token: str,
    *,
    ask_all: bool,
) -> list[Replica]:
    """Ask replicas what they serve, tell those whose turn it is what they shall, and return what is known of them then.

    Args:
        seen: The workload's replicas as the deployer sees them.
        known: All replicas as they were known before, by revision and index.
        token: The platform's; empty, and nobody is asked or told.
        ask_all: Also ask those that are known to serve what they shall.
    """
    found = {one.index: _remembered(one, known.get((one.revision, one.index)), order) for one in seen}
    if not token:
        return [found[one.index] for one in seen]
    asked = [
        one for one in found.values() if one.ready and one.endpoint and (ask_all or one.serves != order.control.digest)
    ]
    replies = port.read([one.endpoint or "" for one in asked], token)
    for one, reply in zip(asked, replies, strict=True):
        if reply.state is not None:
            state, serves = reply.state, digest_of(reply.state)
            refusal = None if state.loading else state.failure
            forgotten = not state.loading and refusal is None and serves != one.told
            update = {"serving": state.serving, "serves": serves, "refusal": refusal if one.told else None}
            found[one.index] = one.model_copy(update=update | ({"told": None} if forgotten else {}))
        elif reply.refusal is not None:
            found[one.index] = one.model_copy(
                update={"serves": None, "told": order.control.digest, "refusal": reply.refusal}
            )
    # What is told may be served from now on, or not: that is known again once it was asked.
    told = [found[index] for index in to_tell(list(found.values()), order.control)]
    replies = port.send([one.endpoint or "" for one in told], token, order.document)
    for one, reply in zip(told, replies, strict=True):
        found[one.index] = one.model_copy(
            update={"serves": None, "told": order.control.digest, "refusal": reply.refusal}
        )
    return [found[one.index] for one in seen]


def _remembered(seen: Replica, before: Replica | None, order: Order) -> Replica:
    """Return a replica with what is known of its process from before."""
    if before is None:
        return seen
    lost = before.lost if order.rest != order.control.digest else 0
    if before.restarts != seen.restarts or before.pid != seen.pid:
        on_the_way = before.told is not None and before.told != order.rest
        return seen.model_copy(update={"lost": lost + (1 if on_the_way and seen.restarts > before.restarts else 0)})
    kept = {"serving": before.serving, "serves": before.serves, "told": before.told, "refusal": before.refusal}
    return seen.model_copy(update=kept | {"lost": lost})
