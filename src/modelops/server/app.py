"""The HTTP application: every domain's routes below `/v1` (and `/api/v1`), one form of errors, docs that load nothing from
the network."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from modelops.contracts.rest import PREFIX
from modelops.contracts.schemas import Problem
from modelops.contracts.tracing import Tracing
from modelops.kernel import problems
from modelops.kernel.door import Door
from modelops.kernel.manifest import Manifest
from modelops.kernel.work import Workplace
from modelops.server import routes
from modelops.server.middleware import BodyLimit, Doors, RequestContext

DESCRIPTION = """
The whole life of a model. Sign in with `Authorization: Bearer <API key or access token>`; name the project with
`X-Project`. Errors are `application/problem+json` with a stable `code` and a `hint`. Creates take an `Idempotency-Key`,
updates an `If-Match`. Listings take `limit`, `cursor`, `filter` and `order_by`.
"""


class Application(FastAPI):
    """The application: what every request passes, then a door for those of other protocols, then FastAPI for the rest."""

    def stand_behind(self, place: Workplace, doors: Sequence[Door]) -> None:
        """Put what every request passes in front."""
        settings = place.settings
        app: ASGIApp = BodyLimit(Doors(super().__call__, doors), settings.max_body_bytes, settings.max_upload_bytes)
        if settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["ETag", "X-Request-Id", "Retry-After"],
            )
        self._front = RequestContext(app, place.ports.get(Tracing))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope["app"] = self
        await self._front(scope, receive, send)


def build_app(place: Workplace, manifests: Sequence[Manifest]) -> Application:
    """Put the application together on a workplace."""
    app = Application(
        title="ModelOps",
        version=version("modelops"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=lambda route: route.operation_id or route.name,
        redirect_slashes=False,
    )
    app.state.place = place
    problems.install(app)
    routers = [routes.router, *(manifest.router for manifest in manifests if manifest.router is not None)]
    every = APIRouter()
    every.routes.extend(sorted((route for router in routers for route in router.routes), key=_generality))
    app.include_router(every, prefix=PREFIX)
    app.include_router(every, prefix=f"/api{PREFIX}", include_in_schema=False)
    app.include_router(routes.unversioned)
    app.stand_behind(place, [manifest.door for manifest in manifests if manifest.door is not None])
    _serve_docs(app)
    app.openapi = _openapi_of(app)  # type: ignore[method-assign]
    return app


def _generality(route: BaseRoute) -> list[bool]:
    """Return what sorts routes so that `/models/training-requirements` is found before `/models/{model}`."""
    return [part.startswith("{") for part in getattr(route, "path", "").split("/")]


def _serve_docs(app: FastAPI) -> None:
    assets = files("fastapi_offline") / "static"
    app.mount("/docs/assets", StaticFiles(directory=str(assets)), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="ModelOps API",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )


def _openapi_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            _share_problems(document)
            document["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or an access token."}
            }
            document["security"] = [{"bearer": []}]
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


def _share_problems(document: dict[str, Any]) -> None:
    """Write each problem response once, and refer to it from the operations."""
    shared = document["components"].setdefault("responses", {})
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if problems.MEDIA_TYPE in response.get("content", {}):
                    shared[f"Problem{status}"] = response
                    operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}
