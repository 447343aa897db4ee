"""Where a server listens: the address, whether it can be had, and with which certificates."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from onnxscape.errors import UsageError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from pathlib import Path

    from onnxscape.service.settings.config import ServerConfig


def listen(server: grpc.aio.Server, config: ServerConfig) -> int:
    """Let a server listen.

    Args:
        server: Not started yet.
        config: Says where, and with which certificates.

    Returns:
        The port.

    Raises:
        UsageError: If the address cannot be had, or the certificates cannot be used.
    """
    credentials = credentials_of(config)
    place = f"{shown(config.host)}:{config.port}"
    try:
        if credentials is None:
            return server.add_insecure_port(place)
        return server.add_secure_port(place, credentials)
    except RuntimeError as error:
        raise UsageError(
            f"cannot listen on {place}: {reason(error)}; choose another --host or --port, "
            "or mend the certificates"
        ) from error


def refuse_taken(config: ServerConfig) -> None:
    """Refuse an address that cannot be had, before anything is made or changed.

    Args:
        config: Says where to listen.

    Raises:
        UsageError: If another program listens there, or this machine has no such address.
    """
    failures: list[OSError] = []
    had = False
    try:
        found = socket.getaddrinfo(
            config.host.strip("[]"), config.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        failures, found = [error], []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as trial:
                # As gRPC does: connections of before that linger are no obstacle.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
                trial.listen(1)
                had = True
        except OSError as error:
            failures.append(error)
    # Of a name's addresses, those that this machine lacks are no trouble where it has others.
    failures = [e for e in failures if not had or e.errno == errno.EADDRINUSE]
    if failures:
        raise UsageError(
            f"cannot listen on {shown(config.host)}:{config.port}: {reason(failures[0])}; "
            "choose another --host or --port"
        ) from failures[0]


def shown(host: str) -> str:
    """Return a host as it stands before a port.

    Args:
        host: A name or an address, of IPv6 with brackets or without.
    """
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare


def credentials_of(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Read the certificates of a server.

    Args:
        config: Names the files.

    Returns:
        What to listen with; None for no TLS.

    Raises:
        UsageError: If a file cannot be read.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    authorities = None if config.client_ca is None else _read(config.client_ca, "--client-ca")
    pair = (_read(config.tls_key, "--tls-key"), _read(config.tls_cert, "--tls-cert"))
    return grpc.ssl_server_credentials(
        [pair],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )


def _read(path: Path, flag: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {flag} {path}: {reason(error)}") from error
    if b"-----BEGIN " not in content:
        raise UsageError(f"expected a PEM file for {flag}, got {path}, which is none")
    return content
