"""From rows to the vectors that a learner takes: numbers filled, texts as one-hot blocks, all of it scaled."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from modelops.contracts.schemas import Schema


class NumberInput(Schema):
    """A number or truth value: one place of the vector. `fill` stands for a missing one."""

    kind: Literal["number"] = "number"
    name: str
    fill: float


class TextInput(Schema):
    """A text: a place of the vector for each level, and a last one for whatever is missing or was not learned."""

    kind: Literal["text"] = "text"
    name: str
    levels: list[str]


Input = Annotated[NumberInput | TextInput, Field(discriminator="kind")]


class Scaling(Schema):
    """What is taken off each place of the vector, and what it is multiplied by then."""

    center: list[float]
    factor: list[float]


def encode(rows: Any, inputs: Sequence[NumberInput | TextInput], scaling: Scaling | None) -> Any:
    """Return rows as vectors, float64 of shape (rows, places).

    Args:
        rows: Shape (rows, features) in the order of `inputs`, or columns by name.
        inputs: The features; numbers come first in the vector, then texts, each in this order.
        scaling: How the vectors are scaled, if they are.
    """
    columns = (
        rows if isinstance(rows, Mapping) else dict(zip((one.name for one in inputs), _columns(rows), strict=True))
    )
    numbers = [_filled(columns[one.name], one.fill) for one in inputs if isinstance(one, NumberInput)]
    blocks = [_block(columns[one.name], one.levels) for one in inputs if isinstance(one, TextInput)]
    parts = ([np.column_stack(numbers)] if numbers else []) + blocks
    vectors = np.hstack(parts)
    if scaling is None:
        return vectors
    return (vectors - np.asarray(scaling.center)) * np.asarray(scaling.factor)


def _columns(rows: Any) -> list[Any]:
    table = np.asarray(rows)
    return [table[:, place] for place in range(table.shape[1])]


def _filled(column: Any, fill: float) -> Any:
    values = np.asarray(column)
    if values.dtype == object:
        values = np.array([np.nan if value is None else value for value in values.tolist()], dtype=np.float64)
    numbers = values.astype(np.float64)
    return np.where(np.isnan(numbers), fill, numbers)


def _block(column: Any, levels: Sequence[str]) -> Any:
    places = {level: place for place, level in enumerate(levels)}
    found = [places.get(value, len(levels)) if isinstance(value, str) else len(levels) for value in np.asarray(column)]
    block = np.zeros((len(found), len(levels) + 1))
    block[np.arange(len(found)), found] = 1.0
    return block
