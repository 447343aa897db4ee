"""Where a server is, and when the way there is encrypted."""

from __future__ import annotations

import pytest

from onnxscape.errors import UsageError
from onnxscape.service.client.address import Address, Security


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051, "127.0.0.1:50051"),
        (" gpu-box.example.org:1 ", "gpu-box.example.org", 1, "gpu-box.example.org:1"),
        ("localhost", "localhost", 50051, "localhost:50051"),
        ("[::1]:65535", "::1", 65535, "[::1]:65535"),
        ("[fe80::1%eth0]", "fe80::1%eth0", 50051, "[fe80::1%eth0]:50051"),
    ],
)
def test_addresses_are_read(text, host, port, shown):
    address = Address.parse(text)
    assert (address.host, address.port, str(address)) == (host, port, shown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":50051",
        "a:0",
        "a:65536",
        "a:b",
        "::1",
        "http://a:1",
        "a:1/x",
        "a b:1",
        "unix:/x",
        "[::1",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match="expected a server as HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("host", "options", "encrypted"),
    [
        ("127.0.0.1", {}, False),
        ("127.9.9.9", {}, False),
        ("localhost", {}, False),
        ("[::1]", {}, False),
        ("localhost.example.org", {}, True),
        ("10.0.0.1", {}, True),
        ("gpu-box", {}, True),
        ("gpu-box", {"insecure": True}, False),
        ("127.0.0.1", {"tls_ca": "ca.pem"}, True),
        ("127.0.0.1", {"tls_cert": "c.pem", "tls_key": "k.pem"}, True),
    ],
)
def test_only_what_stays_on_this_machine_goes_unencrypted_by_itself(host, options, encrypted):
    assert Security(**options).encrypts(Address.parse(f"{host}:1")) is encrypted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls_cert": "c.pem"}, "give both --tls-cert and --tls-key"),
        ({"tls_key": "k.pem"}, "give both --tls-cert and --tls-key"),
        ({"insecure": True, "tls_ca": "ca.pem"}, "--insecure talks to the server without TLS"),
        ({"token": "two words"}, "a token of printable characters without spaces"),
        ({"token": "line\n"}, "a token of printable characters without spaces"),
        ({"token": ""}, "a token of printable characters without spaces"),
    ],
)
def test_credentials_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Security(**options)


def test_files_that_are_no_certificates_are_refused(tmp_path):
    path = tmp_path / "ca.pem"
    with pytest.raises(UsageError, match=r"cannot read --tls-ca .*ca.pem: No such file"):
        Security(tls_ca=path).pem()
    path.write_bytes(b"\x30\x82")
    with pytest.raises(UsageError, match="expected --tls-ca as a PEM file"):
        Security(tls_ca=path).pem()
