"""The protocol's requests for predictions, as a form."""

from modelops.contracts.errors import InvalidInput
from modelops.domains.models.flavours import Predictor
from modelops.domains.serving.schemas import VariantDocument
from modelops.runtime.serving.forms import QUICK_BYTES, Body, Prepared
from modelops.runtime.serving.openinference.inputs import Inputs
from modelops.runtime.serving.openinference.messages import read_request
from modelops.runtime.serving.openinference.outputs import Reply
from modelops.runtime.serving.parsing import Parser

_MOST_QUICK_BYTES = 2 * 1024 * 1024


class OpenForm:
    """Tensors in, tensors out.

    Args:
        told: The parameters of every reply.
    """

    label = "/v2/models/infer"

    def __init__(
        self, variant: VariantDocument, predictor: Predictor, parser: Parser, max_rows: int, told: dict[str, str]
    ) -> None:
        self._model, self._version, self._classes = variant.model, str(variant.version), predictor.classes
        self._told = told
        self._inputs = Inputs(variant.signature, parser, max_rows, columns=predictor.wants_columns)

    def is_quick(self, body: Body, json_length: int | None) -> bool:
        """Tell whether a body is short, or little more than the bytes of one matrix, which need no reading."""
        if len(body) <= QUICK_BYTES:
            return True
        if json_length is None or json_length > QUICK_BYTES or len(body) > _MOST_QUICK_BYTES:
            return False
        return self._inputs.is_matrix(read_request(bytes(body[:json_length])))

    def prepare(self, body: Body, json_length: int | None) -> Prepared:
        """Read a body: JSON, and behind it the bytes of tensors where `json_length` tells where they begin."""
        length = len(body) if json_length is None else json_length
        if length > len(body):
            raise InvalidInput(
                f"Inference-Header-Content-Length is {length:,}, and the body has only {len(body):,} bytes."
            )
        request = read_request(bytes(body[:length]))
        render = Reply(self._model, self._version, self._classes, self._told, request)
        rows, count, listed = self._inputs.rows(request, memoryview(body)[length:])
        return rows, count, listed, render
