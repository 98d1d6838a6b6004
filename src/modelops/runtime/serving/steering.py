"""What the platform asks a replica beside predictions: which revision it serves, to serve another one, and its figures."""

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from modelops.contracts.errors import InvalidInput
from modelops.domains.serving.schemas import RevisionDocument
from modelops.runtime.serving.access import require_platform
from modelops.runtime.serving.bodies import read_body
from modelops.runtime.serving.counting.stats import stats_of
from modelops.runtime.serving.replica import Replica
from modelops.runtime.serving.swaps.swaps import Swapper

_MOST_BYTES = 16 * 1024 * 1024
_JSON = "application/json"


class Steering:
    """Answers under `/revision` and `/stats`. `swapper` is there once the replica listens."""

    swapper: Swapper

    async def put_revision(self, replica: Replica, request: Request) -> Response:
        """Take another revision; 202 says that it is kept, and not that it is served."""
        await self._admit(replica, request)
        body = await read_body(request, _MOST_BYTES, "A revision document does not get so large.")
        try:
            document = RevisionDocument.model_validate_json(body)
        except ValidationError as wrong:
            first = wrong.errors()[0]
            raise InvalidInput(
                f"The body is not a revision document: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
                hint="The platform and the runtime must be of the same version.",
            ) from wrong
        await self.swapper.put(document)
        return await self._status(202)

    async def get_revision(self, replica: Replica, request: Request) -> Response:
        """Tell what is served, and what is on its way."""
        await self._admit(replica, request)
        return await self._status(200)

    async def get_stats(self, replica: Replica, request: Request) -> Response:
        """Tell what was answered, and what waits."""
        await replica.admit(request.headers.get("authorization"), predicting=False)
        return Response(stats_of(replica.told()).model_dump_json(), media_type=_JSON)

    async def _admit(self, replica: Replica, request: Request) -> None:
        claims = await replica.claims(request.headers.get("authorization"))
        require_platform(claims, replica.document.deployment_id)

    async def _status(self, status: int) -> Response:
        return Response((await self.swapper.status()).model_dump_json(), status, media_type=_JSON)
