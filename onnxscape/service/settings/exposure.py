"""Whom a server is open to: what is refused unless the configuration says that it is meant."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from onnxscape.service.settings.config import ServerConfig


def check_exposure(config: ServerConfig) -> None:
    """Refuse to be open to strangers by mistake.

    Args:
        config: The configuration.

    Raises:
        UsageError: If callers would not be known, or their tokens could be overheard, and
            `insecure` is not set; if metrics would be open and it is not meant; or if
            certificates are missing.
    """
    if (config.tls_cert is None) != (config.tls_key is None):
        raise UsageError("expected --tls-cert and --tls-key together, got one of them")
    if config.client_ca is not None and config.tls_cert is None:
        raise UsageError("expected --tls-cert and --tls-key with --client-ca, got neither")
    if config.auth == "mtls" and config.client_ca is None:
        raise UsageError(
            "--auth mtls needs --tls-cert, --tls-key and --client-ca, which tell who may call"
        )
    if config.insecure:
        return
    if (
        config.http_port is not None
        and not config.http_insecure
        and not is_loopback(config.http_host)
    ):
        raise UsageError(
            f"whoever reaches {config.http_host} could read the metrics; use --http-host "
            "127.0.0.1, or --http-insecure if that is meant"
        )
    if is_loopback(config.host):
        return
    if config.auth == "none":
        raise UsageError(
            f"without --auth this server is for its own machine only, and {config.host} is "
            "open to others; use --auth token or mtls, --host 127.0.0.1, or --insecure if "
            "whoever reaches it may do everything"
        )
    if config.auth == "token" and config.tls_cert is None:
        raise UsageError(
            f"tokens could be overheard on the way to {config.host}; use --tls-cert and "
            "--tls-key, --host 127.0.0.1, or --insecure if something before it does TLS"
        )


def is_loopback(host: str) -> bool:
    """Return whether only programs on the same machine reach an address.

    Args:
        host: A name or an address.

    Returns:
        True for `localhost` and loopback addresses; False for all other names.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
