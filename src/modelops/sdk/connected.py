"""What works over a client: one that it is given, or one of its own that it opens at the first need."""

from types import TracebackType
from typing import Self

from modelops.sdk.client import Client


class Connected:
    """Has a connection. Close it, or use it as a context manager, where it opened its own.

    Args:
        backend: A client, a platform's address, or None for the one of the settings; opened at the first need.
        project: The project, where `backend` is no client.
    """

    def __init__(self, backend: Client | str | None = None, *, project: str | None = None) -> None:
        self._client = backend if isinstance(backend, Client) else None
        self._owned = self._client is None
        self._url = None if isinstance(backend, Client) else backend
        self._project = project

    @property
    def client(self) -> Client:
        """Return the connection, opening it at the first call."""
        if self._client is None:
            self._client = Client(self._url, project=self._project)
        return self._client

    def close(self) -> None:
        """Close the connection, if it was opened here; the next call opens another."""
        if self._owned and self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
