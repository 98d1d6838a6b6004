"""Chains of models in memory: `ModelChain`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compositions import CHAIN, Composition, PassOn, check_steps
from modelops.domains.models.ensembles.chains import ChainPredictor, as_rows
from modelops.domains.models.schemas import ModelSignature, ModelVersion
from modelops.sdk.client import Client
from modelops.sdk.parts import Part
from modelops.sdk.registry import ModelRegistry
from modelops.sdk.wholes import SAID_BY_SERVER, Whole, write_document


class ModelChain(Whole):
    """Models one after the other: what one predicts is what the next one takes; the last one's answer is the chain's.

    Args:
        steps: Registered versions (`name`, `name:3`, `name@alias`), fitted models and transformers, and callables.
        pass_on: What a step that has probabilities gives to the next: `predictions` or `probabilities`.
        backend: As for `ModelEnsemble`.
    """

    composed_as = CHAIN

    def __init__(
        self,
        steps: Sequence[Any],
        *,
        pass_on: PassOn | Literal["predictions", "probabilities"] = PassOn.PREDICTIONS,
        backend: ModelRegistry | Client | str | None = None,
    ) -> None:
        if len(steps) < 2:
            raise InvalidInput("A chain has two steps or more.")
        super().__init__(steps, "the step", [1.0] * len(steps), backend)
        self.pass_on = PassOn(pass_on)

    def register(self, name: str, *, sample: Any = None, **facts: Any) -> ModelVersion:
        """Register it as the next version of `name`, with its steps' packages in its own. Takes what
        `ModelEnsemble.register` takes."""
        if sample is None and self._all_registered() and facts.keys() <= SAID_BY_SERVER:
            refs = [version.id for version in self.versions]
            return self._registry.client.models.register_chain(name, refs, pass_on=self.pass_on, **facts)
        return self._register(name, sample, facts)

    def write(self, folder: Path, rows: Any = None) -> list[str]:
        """Write the steps' packages and `ensemble.json` into a folder; `rows` are some that it takes."""
        members, names = [], self._named or self.feature_names_in_
        for place, part in enumerate(self._parts):
            members.append(part.write(folder / f"members/{place}", rows, names))
            names = None
            if rows is not None and place + 1 < len(self._parts):
                rows = self._next_rows(place, rows)
        return write_document(folder, Composition(kind=CHAIN, pass_on=self.pass_on, members=members))

    def inputs(self) -> ModelSignature | None:
        """Return what it takes and gives, where its first and last step are registered."""
        told = [None if part.version is None else part.version.signature for part in self._parts]
        known = [(part.told, one) for part, one in zip(self._parts, told, strict=True) if one is not None]
        if len(known) == len(told):
            check_steps(known, self.pass_on)
        if told[0] is None:
            return None
        return ModelSignature(inputs=told[0].inputs, outputs=[] if told[-1] is None else told[-1].outputs)

    def _takes(self) -> list[Part]:
        return self._parts[:1]

    def _next_rows(self, place: int, rows: Any) -> Any:
        before, step = self._parts[place].loaded, self._parts[place + 1].loaded
        said, shares = before.answer(before.rows(rows))
        given = shares if self.pass_on is PassOn.PROBABILITIES and shares is not None else said
        return as_rows(before, given, step, len(said))

    @cached_property
    def _asked(self) -> ChainPredictor:
        self.inputs()  # which refuses steps that do not fit together
        return ChainPredictor([part.loaded for part in self._parts], self.pass_on)

    def _predictor(self) -> ChainPredictor:
        return self._asked
