"""TLS: the server is known by who vouches for it, the client by its certificate."""

from __future__ import annotations

import shutil
import subprocess

import grpc
import pytest
from fake_server import FakeServer

import onnxscape as ox
from onnxscape import errors
from onnxscape.service.client.retries import Patience

IMPATIENT = Patience(call=0.5, stream=0.5, first=0.05)

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="certificates are made by openssl"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities, and a certificate of a server and a client by the first."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl("req", "-x509", *key, *files, "-subj", f"/CN={name}", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("req", *key, *files, "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        out = ("-out", f"{name}.pem", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, *out)
    return folder


@pytest.fixture
def encrypted(certificates):
    """Starts a fake server with TLS."""
    started = []

    def start(*, mutual=False):
        pair = ((certificates / "server.key").read_bytes(),)
        pair += ((certificates / "server.pem").read_bytes(),)
        ca = (certificates / "ca.pem").read_bytes() if mutual else None
        made = grpc.ssl_server_credentials([pair], ca, require_client_auth=mutual)
        started.append(FakeServer(made))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def version(server, **options):
    with ox.Client(server.address, patience=IMPATIENT, **options) as client:
        return client.server_info().version


def test_a_server_that_the_authority_vouches_for_is_talked_to(encrypted, certificates):
    server = encrypted()
    token = "onnxscape_x"  # noqa: S105 - of nobody
    assert version(server, tls_ca=certificates / "ca.pem", token=token) == "0.fake"
    assert server.tokens == ["Bearer onnxscape_x"]


def test_a_server_of_another_authority_is_not(encrypted, certificates):
    with pytest.raises(errors.ServerUnreachableError, match="agree on TLS"):
        version(encrypted(), tls_ca=certificates / "other.pem")


def test_a_server_that_encrypts_is_not_reached_without(encrypted):
    server = encrypted()
    with pytest.raises(errors.ServerUnreachableError, match="agree on TLS"):
        version(server, token="onnxscape_x")  # noqa: S106 - of nobody
    assert server.tokens == []


def test_a_client_shows_its_certificate_where_it_is_asked_for(encrypted, certificates):
    server, ca = encrypted(mutual=True), certificates / "ca.pem"
    with pytest.raises(errors.ServerUnreachableError):
        version(server, tls_ca=ca)
    pair = {"tls_cert": certificates / "client.pem", "tls_key": certificates / "client.key"}
    assert version(server, tls_ca=ca, **pair) == "0.fake"
