"""What becomes of blobs that nothing refers to."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.contracts.ports import BlobStore, StoredBlob
from modelops.domains.data import collecting
from modelops.domains.data.collecting import Doomed
from modelops.kernel.context import Context

_SURVEY, _REMOVE = "survey", "remove"


@dataclass(frozen=True)
class _Stretch:
    """Blobs in the order of a walk; none means that the walk is at its end."""

    blobs: list[StoredBlob]


@dataclass(frozen=True)
class _Start:
    """Where a stretch of the walk begins."""

    after: str | None


class GarbageCollector:
    """Walks over the store, a stretch a step, and removes what was noted as unheld for the time of grace."""

    name = "data.garbage"
    rest_s = 5.0

    def pending(self, ctx: Context) -> Sequence[str]:
        """Return what is to be done: a stretch of a walk, once an interval, and removing what is due."""
        keys = [_SURVEY] if collecting.walk_is_due(ctx) else []
        return [*keys, _REMOVE] if collecting.any_doomed(ctx) else keys

    def load(self, ctx: Context, key: str) -> _Start | Doomed:
        """Return where the walk is, or what is to be removed: of that nothing is held by any domain now."""
        return _Start(collecting.walk_position(ctx)) if key == _SURVEY else collecting.doomed_blobs(ctx)

    def act(self, ports: Mapping[type, Any], state: _Start | Doomed) -> _Stretch | Doomed:
        """Walk, or remove."""
        store: BlobStore = ports[BlobStore]
        if isinstance(state, _Start):
            return _Stretch(list(itertools.islice(store.walk(state.after), collecting.AT_ONCE)))
        collecting.remove(store, state)
        return state

    def apply(self, ctx: Context, key: str, seen: _Stretch | Doomed) -> None:
        """Note what is unheld and how far the walk is, or that what was removed is gone."""
        if isinstance(seen, Doomed):
            collecting.forget(ctx, seen.noted)
            return
        collecting.survey(ctx, seen.blobs, note=True)
        collecting.walk_on(ctx, seen.blobs[-1].digest if seen.blobs else None)
