"""What MLflow's clients ask of a server before they talk to it."""

from starlette.responses import PlainTextResponse

from modelops.domains.mlflow.protocol import api, door
from modelops.kernel.door import Answer
from modelops.kernel.scope import Scope

SPOKEN = "3.17.2"
"""The version of MLflow whose protocol is spoken here; its clients send spans to a server of at least 3.4."""


@door.route("GET", "/version")
async def get_version(scope: Scope) -> Answer:
    """Tell the version of the protocol."""
    return PlainTextResponse(SPOKEN)


@api("GET", "3.0/mlflow/server-info")
async def get_server_info(scope: Scope) -> Answer:
    """Tell what the server offers: clients decide by it whether they may name a workspace and how they upload."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": True,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }
