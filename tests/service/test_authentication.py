import asyncio
import contextlib
import shutil
import subprocess
from unittest import mock

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from whole_server import Client, bearer, digest_of, refused, run, whole

from onnxscape.errors import UsageError
from onnxscape.service.access.authentication import AuthInterceptor
from onnxscape.service.server import Server
from onnxscape.service.settings.config import ServerConfig
from onnxscape.v1 import blobs_pb2, server_pb2

Code = grpc.StatusCode
INFO = server_pb2.GetServerInfoRequest()


async def asked(served, *metadata):
    """Return how a call with some metadata is refused."""
    call = served.stranger.about.GetServerInfo(INFO, metadata=metadata)
    code, message, details = await refused(call)
    assert code is Code.UNAUTHENTICATED
    return message, details["ErrorInfo"].reason


async def user_of(client):
    return (await client.call(client.about.GetServerInfo, INFO)).quota.user


@run
async def test_a_token_tells_whose_call_it_is(tmp_path):
    async with whole(tmp_path) as served:
        assert await user_of(served.ann) == "ann"
        assert await user_of(served.bob) == "bob"


@run
async def test_calls_without_a_good_token_are_refused_and_learn_nothing(tmp_path):
    async with whole(tmp_path) as served:
        good = served.secrets["ann"]
        for metadata, reason in (
            ((), "TOKEN_MISSING"),
            (bearer(good[:-1]), "TOKEN_UNKNOWN"),
            (bearer(good[:-1] + ("A" if good[-1] != "A" else "B")), "TOKEN_UNKNOWN"),
            (bearer(good.upper()), "TOKEN_UNKNOWN"),
            (bearer("onnxscape_" + "A" * 43), "TOKEN_UNKNOWN"),
            (bearer(""), "TOKEN_MALFORMED"),
            (bearer("a" * 5000), "TOKEN_MALFORMED"),
            ((("authorization", f"Basic {good}"),), "TOKEN_MALFORMED"),
            ((("authorization", good),), "TOKEN_MALFORMED"),
            ((*bearer(good), *bearer(good)), "TOKEN_MALFORMED"),
            ((("authorization-bin", f"Bearer {good}".encode()),), "TOKEN_MISSING"),
            ((("user", "ann"), ("x-user", "ann")), "TOKEN_MISSING"),
        ):
            message, found = await asked(served, *metadata)
            assert found == reason
            assert "ann" not in message
            assert good not in message


@run
async def test_a_revoked_token_is_refused_at_once(tmp_path):
    async with whole(tmp_path) as served:
        token, secret = served.tokens.create("ann")
        client = Client(served.ann.channel, bearer(secret))
        assert await user_of(client) == "ann"
        served.tokens.revoke(token.id)
        _, reason = await asked(served, *bearer(secret))
        assert reason == "TOKEN_REVOKED"
        assert await user_of(served.ann) == "ann"


@run
async def test_an_expired_token_is_refused(tmp_path):
    async with whole(tmp_path) as served:
        _, secret = served.tokens.create("ann", seconds=0.05)
        await asyncio.sleep(0.1)
        _, reason = await asked(served, *bearer(secret))
        assert reason == "TOKEN_EXPIRED"


@run
async def test_streams_are_refused_like_other_calls(tmp_path):
    async with whole(tmp_path) as served:
        stranger = served.stranger
        assert (await refused(stranger.write(b"data")))[0] is Code.UNAUTHENTICATED
        code, _, _ = await refused(stranger.read(digest_of(b"data")))
        assert code is Code.UNAUTHENTICATED
        assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []


@run
async def test_an_open_stream_ends_when_its_token_is_revoked(tmp_path):
    with mock.patch("onnxscape.service.server.AuthInterceptor", quick(AuthInterceptor)):
        async with whole(tmp_path) as served:
            token, secret = served.tokens.create("ann")
            client, more = Client(served.ann.channel, bearer(secret)), asyncio.Event()

            async def pieces():
                digest = digest_of(b"0123456789")
                yield blobs_pb2.WriteBlobRequest(digest=digest, data=b"01234")
                await more.wait()
                yield blobs_pb2.WriteBlobRequest(offset=5, data=b"56789")

            call = client.blobs.WriteBlob(pieces(), metadata=client.metadata)
            while (await served.ann.written(b"0123456789")).committed_size < 5:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert not call.done()
            served.tokens.revoke(token.id)
            code, _, details = await refused(call)
            assert code is Code.UNAUTHENTICATED
            assert details["ErrorInfo"].reason == "TOKEN_REVOKED"
            more.set()
            assert len(await served.ann.missing(b"0123456789")) == 1


def quick(made):
    return lambda authenticator, **named: made(authenticator, again=0.05, **named)


@run
async def test_health_and_reflection_are_open_and_methods_that_are_none_unknown(tmp_path):
    async with whole(tmp_path) as served:
        channel = served.stranger.channel
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "onnxscape.v1.JobService"):
            request = health_pb2.HealthCheckRequest(service=name)
            found = await health.Check(request)
            assert found.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (response,) = [r async for r in reflection.ServerReflectionInfo(iter([request]))]
        names = [service.name for service in response.list_services_response.service]
        assert "onnxscape.v1.JobService" in names
        unknown = channel.unary_unary("/onnxscape.v1.JobService/DropTables")
        assert (await refused(unknown(b"")))[0] is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"host": "0.0.0.0"}, "open to others"),  # noqa: S104 - is refused
        ({"host": "::"}, "open to others"),
        ({"host": "10.0.0.1"}, "open to others"),
        ({"host": "example.org"}, "open to others"),
        ({"host": "localhost.example.org"}, "open to others"),
        ({"host": "0.0.0.0", "auth": "token"}, "overheard"),  # noqa: S104 - is refused
        ({"http_host": "0.0.0.0", "http_port": 0}, "--http-insecure"),  # noqa: S104 - likewise
        ({"auth": "mtls"}, "--client-ca"),
        ({"tls_cert": "a"}, "together"),
        ({"client_ca": "a"}, "--tls-cert"),
    ],
)
def test_a_server_is_not_open_to_strangers_by_mistake(tmp_path, settings, text):
    with pytest.raises(UsageError, match=text):
        Server(ServerConfig(data_dir=tmp_path, **settings))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_a_server_for_its_own_machine_needs_no_authentication(tmp_path, host):
    Server(ServerConfig(data_dir=tmp_path, host=host))
    Server(ServerConfig(data_dir=tmp_path, host=host, auth="token"))


def test_insecure_servers_are_those_that_say_so(tmp_path):
    Server(ServerConfig(data_dir=tmp_path, http_host="::", http_port=0, http_insecure=True))
    Server(ServerConfig(data_dir=tmp_path, http_host="::"))  # not used
    Server(ServerConfig(data_dir=tmp_path, host="10.0.0.1", insecure=True))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, another one, and what they signed."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def authority(name):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl("req", "-x509", *new, *files, "-days", "2", "-subj", f"/CN={name}")

    def signed(name, by, subject, alternative=None):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", "new.csr", "-subj", subject)
        extra = ()
        if alternative is not None:
            (folder / "new.ext").write_text(f"subjectAltName={alternative}\n")
            extra = ("-extfile", "new.ext")
        signer = ("-CA", f"{by}.crt", "-CAkey", f"{by}.key", "-CAcreateserial")
        files = ("-in", "new.csr", "-out", f"{name}.crt")
        openssl("x509", "-req", *files, *signer, "-days", "2", *extra)

    authority("ca")
    authority("other")
    signed("server", "ca", "/CN=server", "DNS:localhost,IP:127.0.0.1")
    signed("renewed", "other", "/CN=server", "DNS:localhost,IP:127.0.0.1")
    signed("ann", "ca", "/CN=ann")
    signed("robot", "ca", "/CN=ignored", "URI:spiffe://example.org/robot")
    signed("forged", "other", "/CN=ann")
    return folder


@contextlib.asynccontextmanager
async def secure(served, certificates, name=None, *, trusted="ca"):
    """Connect with a certificate, or without one."""
    files = {"root_certificates": (certificates / f"{trusted}.crt").read_bytes()}
    if name is not None:
        files["private_key"] = (certificates / f"{name}.key").read_bytes()
        files["certificate_chain"] = (certificates / f"{name}.crt").read_bytes()
    credentials = grpc.ssl_channel_credentials(**files)
    # A connection of its own: one of before would not shake hands again.
    options = [("grpc.use_local_subchannel_pool", 1)]
    address = served.server.address
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield Client(channel)


def tls(certificates):
    return {"tls_cert": certificates / "server.crt", "tls_key": certificates / "server.key"}


def test_tokens_work_behind_tls_and_calls_without_it_do_not(tmp_path, certificates):
    @run
    async def test():
        async with (
            whole(tmp_path, **tls(certificates)) as served,
            secure(served, certificates) as client,
        ):
            client.metadata = bearer(served.secrets["ann"])
            assert await user_of(client) == "ann"
            assert (await refused(user_of(served.ann)))[0] is Code.UNAVAILABLE

    test()


def test_callers_are_who_their_certificates_say(tmp_path, certificates):
    @run
    async def test():
        settings = {"auth": "mtls", "client_ca": certificates / "ca.crt", **tls(certificates)}
        async with whole(tmp_path, **settings) as served:
            async with secure(served, certificates, "ann") as client:
                assert await user_of(client) == "ann"
                await client.write(b"data")
                client.metadata = bearer(served.secrets["bob"])
                assert await user_of(client) == "ann"
            async with secure(served, certificates, "robot") as client:
                assert await user_of(client) == "spiffe://example.org/robot"
                assert len(await client.missing(b"data")) == 1
            for name in (None, "forged"):
                async with secure(served, certificates, name) as client:
                    assert (await refused(user_of(client)))[0] is Code.UNAVAILABLE

    test()


def test_certificates_that_are_renewed_are_used_from_the_next_connection_on(
    tmp_path, certificates, caplog
):
    @run
    async def test():
        own = tmp_path / "own"
        own.mkdir()
        files = {"tls_cert": own / "server.crt", "tls_key": own / "server.key"}

        def install(name):
            for kind in ("crt", "key"):
                shutil.copy(certificates / f"{name}.{kind}", own / f"server.{kind}")

        install("server")
        async with whole(tmp_path / "data", **files) as served:
            metadata = bearer(served.secrets["ann"])

            async def ask(trusted):
                async with secure(served, certificates, trusted=trusted) as client:
                    client.metadata = metadata
                    return await user_of(client)

            async with secure(served, certificates) as before:
                before.metadata = metadata
                assert await user_of(before) == "ann"
                assert (await refused(ask("other")))[0] is Code.UNAVAILABLE
                install("renewed")
                assert await ask("other") == "ann"
                assert (await refused(ask("ca")))[0] is Code.UNAVAILABLE
                assert await user_of(before) == "ann"
                (own / "server.key").write_text("half a ke")
                assert await ask("other") == "ann"
                shutil.copy(certificates / "server.key", own)  # of the other certificate
                assert await ask("other") == "ann"
                assert "cannot use the new certificates" in caplog.text
                (own / "server.key").unlink()
                assert await ask("other") == "ann"

    test()


def test_certificates_that_are_none_are_told(tmp_path, certificates):
    @run
    async def test():
        (tmp_path / "x.pem").write_text("nothing")
        broken = tls(certificates) | {"tls_key": tmp_path / "x.pem"}
        with pytest.raises(UsageError, match=r"PEM file for --tls-key"):
            async with whole(tmp_path, **broken):
                pass
        other = tls(certificates) | {"tls_key": certificates / "ann.key"}
        with pytest.raises(UsageError, match=r"a certificate and its key"):
            async with whole(tmp_path, **other):
                pass
        missing = tls(certificates) | {"tls_cert": tmp_path / "none.pem"}
        with pytest.raises(UsageError, match=r"cannot read --tls-cert"):
            async with whole(tmp_path, **missing):
                pass

    test()


@run
async def test_monitors_learn_that_there_is_trouble_but_not_its_text(tmp_path):
    async with whole(tmp_path, http_port=0) as served:
        trouble = mock.PropertyMock(return_value="cannot write /secret")
        with mock.patch("onnxscape.jobs.coordinator.Coordinator.trouble", trouble):
            host, _, port = served.server.http_address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
    assert b" 503 " in answer
    assert b"cannot store" in answer
    assert b"secret" not in answer
