"""What a package says of the form in which it is served, read when it is registered; nothing of it is run here."""

from collections.abc import Sequence

from pydantic import ValidationError

from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import BlobStore
from modelops.domains.models.rules import COMPILED_GRAPH, COMPILED_RECORD
from modelops.domains.models.schemas import GRAPHS, PackageFile, ServingForm
from modelops.kernel.context import Context

_MOST_BYTES = 256 * 1024


def serving_form(ctx: Context, files: Sequence[PackageFile]) -> ServingForm | None:
    """Return the record that a package's file holds; None where it has none.

    Raises:
        InvalidInput: it is no record, or the graph that it names is not in the package.
    """
    by_path = {file.path: file for file in files}
    file = by_path.get(COMPILED_RECORD)
    if file is None:
        return None
    if file.size > _MOST_BYTES:
        raise InvalidInput(f"The file '{COMPILED_RECORD}' has more than {_MOST_BYTES:,} bytes.")
    try:
        form = ServingForm.model_validate_json(b"".join(ctx.port(BlobStore).read(file.digest)))
    except ValidationError as wrong:
        raise InvalidInput(
            f"The file '{COMPILED_RECORD}' does not say how the model is served: {wrong.errors()[0]['msg']}.",
            hint="Leave it out, and the runtime compiles the model when it loads it.",
        ) from wrong
    if (form.runs in GRAPHS) != (COMPILED_GRAPH in by_path):
        raise InvalidInput(f"The file '{COMPILED_RECORD}' says '{form.runs}', and '{COMPILED_GRAPH}' says otherwise.")
    return form
