"""A channel to a server, and calls on it that are tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
import grpc.aio

from onnxscape.service.client.retries import Backoff, Patience
from onnxscape.service.client.server_errors import away, error_of
from onnxscape.v1.blobs_pb2_grpc import BlobServiceStub
from onnxscape.v1.catalog_pb2_grpc import CatalogServiceStub
from onnxscape.v1.jobs_pb2_grpc import JobServiceStub
from onnxscape.v1.server_pb2_grpc import ServerServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onnxscape.errors import OnnxscapeError
    from onnxscape.service.client.address import Address, Security

_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Response_co = TypeVar("_Response_co", covariant=True)
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

SHORT = 30.0
"""Seconds for calls that only look something up."""

LONG = 900.0
"""Seconds for calls that read models and data, or try an order out."""


class Call(Protocol[_Request_contra, _Response_co]):
    """A method with one request and one response."""

    async def __call__(
        self,
        request: _Request_contra,
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]],
    ) -> _Response_co:
        """Call it."""


class Connection:
    """A channel to a server; opened when it is first used.

    Attributes:
        address: Where the server is.
        patience: How long to try again.
        told: Told, in words, when the server is lost and found.
        metadata: What is sent with every call.
        blobs: Stub of the service.
        catalog: Stub of the service.
        jobs: Stub of the service.
        server: Stub of the service.
    """

    def __init__(
        self,
        address: Address,
        security: Security,
        patience: Patience,
        told: Callable[[str], None],
    ) -> None:
        """Take address and credentials; must be called where an event loop runs.

        Args:
            address: Where the server is.
            security: How to talk to it.
            patience: How long to try again.
            told: Told, in words, when the server is lost and found.

        Raises:
            UsageError: If a file of the credentials cannot be read.
        """
        self.address = address
        self.patience = patience
        self.told = told
        self.metadata: tuple[tuple[str, str], ...] = ()
        if security.token is not None:
            self.metadata = (("authorization", f"Bearer {security.token}"),)
        self._channel = _channel(address, security)
        self.blobs: Any = BlobServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.catalog: Any = CatalogServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.jobs: Any = JobServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.server: Any = ServerServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def call(
        self, method: Call[_Request, _Response], request: _Request, *, seconds: float = SHORT
    ) -> _Response:
        """Call a method that may be called twice; again if that may help.

        Args:
            method: Of one of the stubs.
            request: Its request.
            seconds: For one try.

        Returns:
            The response.

        Raises:
            OnnxscapeError: What the server answers, or that it does not.
        """
        backoff = Backoff(self.patience, self.patience.call)

        def tell() -> None:
            if backoff.failures == 2:  # what the second try mends at once is not worth a line
                self.told(trouble)

        while True:
            try:
                response = await method(request, timeout=seconds, metadata=self.metadata)
            except grpc.aio.AioRpcError as error:
                trouble = away(self.address, error)
                if not await backoff.wait(error, tell):
                    raise self.error(error) from error
            else:
                if backoff.failures > 1:
                    self.told(f"{self.address} answers again")
                return response

    def error(self, error: grpc.aio.AioRpcError) -> OnnxscapeError:
        """Return the error that a status stands for.

        Args:
            error: The status.
        """
        return error_of(error, self.address)

    async def close(self) -> None:
        """End all calls, and the channel."""
        await self._channel.close()


def _channel(address: Address, security: Security) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = [
        # A server that comes back is noticed soon.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 5000),
    ]
    if address.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))
    if not security.encrypts(address):
        return grpc.aio.insecure_channel(str(address), options=options)
    ca, key, chain = security.pem()
    credentials = grpc.ssl_channel_credentials(ca, key, chain)
    return grpc.aio.secure_channel(str(address), credentials, options=options)
