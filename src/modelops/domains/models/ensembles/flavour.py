"""The flavours `ensemble` and `chain`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.compiling.parity import Differs, check_parity
from modelops.domains.models.compiling.probes import SAMPLE
from modelops.domains.models.compositions import CHAIN, ENSEMBLE, Composition
from modelops.domains.models.ensembles.chains import ChainPredictor
from modelops.domains.models.ensembles.members import Loaded, load_member, load_members, read_composition, read_sample
from modelops.domains.models.ensembles.predictors import EnsemblePredictor
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.schemas import ModelSignature

_log = logging.getLogger(__name__)


@runtime_checkable
class Composed(Protocol):
    """An object in memory that is made of models, such as those of `modelops.sdk.wholes`."""

    composed_as: str

    def write(self, folder: Path, rows: Any = None) -> list[str]:
        """Write the members' packages and `ensemble.json`; `rows` are some that the whole takes."""
        ...

    def inputs(self) -> ModelSignature | None:
        """Return what it takes and gives, as far as its members tell."""
        ...

    def requirements(self) -> list[str]:
        """Return the pinned packages that its members need."""
        ...


@dataclass(frozen=True)
class ComposedFlavour:
    """Saves what is made of models, and loads it from a package that holds theirs."""

    name: str

    def detect(self, model: Any) -> bool:
        """Tell whether `model` is one of this kind."""
        return getattr(model, "composed_as", None) == self.name and isinstance(model, Composed)

    def save(self, model: Any, folder: Path) -> list[str]:
        """Write the members' packages, and `ensemble.json`."""
        written: list[str] = model.write(folder)
        return written

    def save_with_rows(self, model: Any, folder: Path, rows: Any) -> list[str]:
        """Save as `save` does; members in memory are compiled by some rows."""
        written: list[str] = model.write(folder, rows)
        return written

    def signature(self, model: Any) -> ModelSignature | None:
        """Return what the members tell of what it takes."""
        told: ModelSignature | None = model.inputs()
        return told

    def load(self, folder: Path) -> Predictor:
        """Load the members, each in the form it is served in, and put them together.

        The whole is held to its sample: where the members' forms do not say together what the members as they were saved
        say together, these are asked.
        """
        composition = read_composition(folder)
        if composition.kind != self.name:
            raise InvalidInput(f"The package holds a model of the kind '{composition.kind}', not '{self.name}'.")
        members = load_members(folder, composition)
        final = None if composition.final is None else load_member(folder / "final", composition.final)
        fast = put_together(composition, members, final)
        parts = [*members, *([final] if final is not None else [])]
        sample = None if all(part.predictor is part.plain for part in parts) else read_sample(folder)
        if not sample or fast.wants_columns:
            return fast
        import numpy as np

        saved = put_together(
            composition, [member.as_saved() for member in members], None if final is None else final.as_saved()
        )
        try:
            rows = np.array(sample, dtype=np.float64)
            check_parity(saved, fast.answer, [(SAMPLE, rows)])
        except (Differs, ValueError) as wrong:
            _log.warning("the members are asked as they were saved: %s", wrong)
            return saved
        return fast

    def requirements(self, model: Any) -> list[str]:
        """Return the packages that the members need."""
        needed: list[str] = model.requirements()
        return needed


def put_together(
    composition: Composition, members: list[Loaded], final: Loaded | None
) -> EnsemblePredictor | ChainPredictor:
    """Return the predictor of loaded members."""
    if composition.kind == CHAIN:
        return ChainPredictor(members, composition.pass_on)
    return EnsemblePredictor(composition, members, final)


ensemble, chain = ComposedFlavour(ENSEMBLE), ComposedFlavour(CHAIN)
