"""Where a server listens: the address, whether it can be had, and with which certificates."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from typing import TYPE_CHECKING, cast

import grpc
import grpc.aio

from onnxscape.errors import UsageError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnxscape.service.settings.config import ServerConfig

_log = logging.getLogger(__name__)


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

    Files that are replaced later are read again for the next connection; what cannot be used
    then is logged, and those from before stay.

    Args:
        config: Names the files.

    Returns:
        What to listen with; None for no TLS.

    Raises:
        UsageError: If a file cannot be read.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    certificates = Certificates(config.tls_cert, config.tls_key, config.client_ca)
    return grpc.dynamic_ssl_server_credentials(
        certificates.read(),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", certificates.replaced),
        require_client_authentication=config.client_ca is not None,
    )


class Certificates:
    """The files with a server's certificates, which somebody renews now and then."""

    def __init__(self, certificate: Path, key: Path, authorities: Path | None) -> None:
        """Name the files, all of them PEM.

        Args:
            certificate: Of the server, with its chain.
            key: Its key.
            authorities: Those who may vouch for clients; None if these need no certificate.
        """
        self._files = {"--tls-key": key, "--tls-cert": certificate}
        if authorities is not None:
            self._files["--client-ca"] = authorities
        self._seen: tuple[tuple[int, int], ...] = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files.

        Returns:
            What is in them.

        Raises:
            UsageError: If one cannot be read or used, or the key is of another certificate.
        """
        self._seen = self._state()
        content = {flag: _read(path, flag) for flag, path in self._files.items()}
        self._try()
        pair = content["--tls-key"], content["--tls-cert"]
        return grpc.ssl_server_certificate_configuration(
            [pair], root_certificates=content.get("--client-ca")
        )

    def replaced(self) -> grpc.ServerCertificateConfiguration | None:
        """Read the files if they have changed.

        Returns:
            What is in them; None if they have not, or cannot be used.
        """
        if self._state() == self._seen:
            return None
        try:
            found = self.read()
        except UsageError as error:
            _log.warning("cannot use the new certificates", extra={"why": str(error)})
            return None
        _log.info("certificates read again")
        return found

    def _try(self) -> None:
        """Find out whether the files can be used: gRPC would not say.

        Raises:
            UsageError: If they cannot.
        """
        certificate, key = self._files["--tls-cert"], self._files["--tls-key"]
        authorities = self._files.get("--client-ca")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key with a password is refused, not asked for.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"expected a certificate and its key without a password, got --tls-cert "
                f"{certificate} and --tls-key {key}: {reason(error)}"
            ) from error
        try:
            if authorities is not None:
                context.load_verify_locations(authorities)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"expected certificates in --client-ca {authorities}: {reason(error)}"
            ) from error

    def _state(self) -> tuple[tuple[int, int], ...]:
        """Return what changes when a file is replaced; a file that is gone has changed."""
        state = []
        for path in self._files.values():
            try:
                found = path.stat()
                state.append((found.st_mtime_ns, found.st_size))
            except OSError:
                state.append((0, 0))
        return tuple(state)


def _read(path: Path, flag: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {flag} {path}: {reason(error)}") from error
    if b"-----BEGIN " not in content:
        raise UsageError(f"expected a PEM file for {flag}, got {path}, which is none")
    return content
