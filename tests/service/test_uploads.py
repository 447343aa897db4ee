import asyncio
import errno
import hashlib
import os

import grpc
import pytest
from whole_server import digest_of, refused, run, whole

from onnxscape.storage.upload import Part
from onnxscape.v1 import blobs_pb2, catalog_pb2

DATA = bytes(range(256)) * 20
Code = grpc.StatusCode


@run
async def test_a_blob_is_read_back_as_it_was_written(tmp_path):
    async with whole(tmp_path) as served:
        response = await served.ann.write(DATA)
        assert response.digest == digest_of(DATA)
        pieces = await served.ann.read(digest_of(DATA))
        assert b"".join(piece.data for piece in pieces) == DATA
        rest = await served.ann.read(digest_of(DATA), offset=100)
        assert (rest[0].offset, rest[0].data) == (100, DATA[100:])
        assert await served.ann.read(digest_of(DATA), offset=len(DATA)) == []


@run
async def test_large_blobs_come_in_pieces_of_a_mebibyte(tmp_path):
    data = os.urandom(2_500_000)
    async with whole(tmp_path) as served:
        await served.ann.write(data, step=2 << 20)
        pieces = await served.ann.read(digest_of(data))
        assert [len(piece.data) for piece in pieces] == [
            1 << 20,
            1 << 20,
            2_500_000 - (2 << 20),
        ]
        assert b"".join(piece.data for piece in pieces) == data


@run
async def test_the_blobs_of_others_are_missing_until_their_bytes_are_written_too(tmp_path):
    async with whole(tmp_path) as served:
        await served.ann.write(DATA)
        assert await served.ann.missing(DATA) == []
        assert await served.bob.missing(DATA) == [digest_of(DATA)]
        code, message, _ = await refused(served.bob.read(digest_of(DATA)))
        assert code is Code.NOT_FOUND
        assert message == (await refused(served.bob.read(digest_of(b"none"))))[1].replace(
            digest_of(b"none").sha256, digest_of(DATA).sha256
        )
        status = await served.bob.written(DATA)
        assert (status.committed_size, status.complete) == (0, False)
        code, message, _ = await refused(served.bob.write(DATA, start=len(DATA) - 10))
        assert code is Code.INVALID_ARGUMENT
        assert "from offset 0" in message
        await served.bob.write(DATA)
        assert await served.bob.missing(DATA) == []


@run
async def test_models_cannot_be_made_of_bytes_that_only_others_have(tmp_path):
    async with whole(tmp_path) as served:
        await served.ann.write(DATA)
        request = catalog_pb2.CreateModelRequest(blob=digest_of(DATA))
        code, _, details = await refused(
            served.bob.call(served.bob.catalog.CreateModel, request)
        )
        assert code is Code.FAILED_PRECONDITION
        violation = details["PreconditionFailure"].violations[0]
        assert violation.subject == digest_of(DATA).sha256


@run
async def test_a_stream_that_broke_off_is_gone_on_with(tmp_path):
    async with whole(tmp_path) as served:

        async def broken():
            digest = digest_of(DATA)
            yield blobs_pb2.WriteBlobRequest(digest=digest, data=DATA[:1234])
            while (await served.ann.written(DATA)).committed_size < 1234:
                await asyncio.sleep(0.01)
            call.cancel()

        call = served.ann.blobs.WriteBlob(broken(), metadata=served.ann.metadata)
        with pytest.raises(asyncio.CancelledError):
            await call
        status = await served.ann.written(DATA)
        assert (status.committed_size, status.complete) == (1234, False)
        await served.ann.write(DATA, start=1234)
        status = await served.ann.written(DATA)
        assert (status.committed_size, status.complete) == (len(DATA), True)
        assert b"".join(p.data for p in await served.ann.read(digest_of(DATA))) == DATA


@run
async def test_a_stream_that_ends_too_early_is_told_how_much_came(tmp_path):
    async with whole(tmp_path) as served:
        code, message, _ = await refused(served.ann.write(DATA, stop=3000))
        assert code is Code.INVALID_ARGUMENT
        assert "got 3000" in message
        await served.ann.write(DATA, start=3000)
        assert await served.ann.missing(DATA) == []


@run
async def test_bytes_with_another_digest_are_refused_and_dropped(tmp_path):
    async with whole(tmp_path) as served:
        code, message, _ = await refused(
            served.ann.write(bytes(len(DATA)), digest=digest_of(DATA))
        )
        assert code is Code.INVALID_ARGUMENT
        assert "sha256" in message
        assert (await served.ann.written(DATA)).committed_size == 0
        assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []
        await served.ann.write(DATA)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([(0, DATA[:10]), (11, DATA[11:])], "offset 10, got 11"),
        ([(0, DATA[:10]), (5, DATA[5:])], "offset 10, got 5"),
        ([(7, DATA[7:])], "offset 0, got 7"),
        ([(-1, DATA)], "offset 0, got -1"),
        ([(0, DATA), (len(DATA), b"more")], f"expected {len(DATA)} bytes"),
        ([(0, bytes((2 << 20) + 1))], "data: expected at most 2097152 bytes"),
        ([], "digest.sha256"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(tmp_path, pieces, text):
    @run
    async def test():
        async with whole(tmp_path) as served:
            requests = [
                blobs_pb2.WriteBlobRequest(digest=digest_of(DATA), offset=offset, data=data)
                for offset, data in pieces
            ]
            call = served.ann.blobs.WriteBlob(iter(requests), metadata=served.ann.metadata)
            code, message, _ = await refused(call)
            assert code is Code.INVALID_ARGUMENT
            assert text in message
            assert await served.ann.missing(DATA) == [digest_of(DATA)]

    test()


@pytest.mark.parametrize(
    "name", ["", "../../../etc/passwd", "..", "A" * 64, "a" * 63, f"/{'a' * 63}", "\0" * 64]
)
def test_what_is_no_digest_is_refused_everywhere(tmp_path, name):
    @run
    async def test():
        async with whole(tmp_path) as served:
            ann, digest = served.ann, blobs_pb2.Digest(sha256=name, size=3)
            write = [blobs_pb2.WriteBlobRequest(digest=digest, data=b"abc")]
            missing = blobs_pb2.FindMissingBlobsRequest(digests=[digest])
            status = blobs_pb2.QueryWriteStatusRequest(digest=digest)
            model = catalog_pb2.CreateModelRequest(blob=digest)
            for call in (
                ann.blobs.WriteBlob(iter(write), metadata=ann.metadata),
                ann.read(digest),
                ann.call(ann.blobs.FindMissingBlobs, missing),
                ann.call(ann.blobs.QueryWriteStatus, status),
                ann.call(ann.catalog.CreateModel, model),
            ):
                code, _, details = await refused(call)
                assert code is Code.INVALID_ARGUMENT
                assert "sha256" in details["BadRequest"].field_violations[0].field

    test()


@run
async def test_a_blob_above_the_limit_is_refused_before_it_is_sent(tmp_path):
    async with whole(tmp_path, blob_bytes=1000) as served:
        code, message, details = await refused(served.ann.write(DATA))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "at most 1000 bytes" in message
        assert details["QuotaFailure"].violations[0].subject == "blob_bytes"


@run
async def test_the_quota_counts_what_is_written_and_what_is_about_to_be(tmp_path):
    async with whole(tmp_path, quota_blob_bytes=6000) as served:
        await refused(served.ann.write(b"a" * 1000, stop=500))
        code, message, details = await refused(served.ann.write(b"b" * 5501))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "at most 5500 bytes" in message
        assert "6000" in details["QuotaFailure"].violations[0].description
        await served.ann.write(b"b" * 5500)
        code, message, _ = await refused(served.ann.write(b"c"))
        assert (code, "at most 0 bytes" in message) == (Code.RESOURCE_EXHAUSTED, True)
        await served.bob.write(b"d" * 6000)


@run
async def test_other_quotas_are_those_of_one_user_alone(tmp_path):
    users = {"ann": {"blob_bytes": 10}}
    async with whole(tmp_path, users=users) as served:
        code, _, _ = await refused(served.ann.write(DATA))
        assert code is Code.RESOURCE_EXHAUSTED
        await served.bob.write(DATA)


@run
async def test_what_is_written_twice_counts_once(tmp_path):
    async with whole(tmp_path, quota_blob_bytes=len(DATA)) as served:
        await served.ann.write(DATA)
        response = await served.ann.write(DATA)
        assert response.digest == digest_of(DATA)


def test_a_full_disk_is_told_and_the_upload_goes_on_afterwards(tmp_path, monkeypatch):
    full, append = [True], Part.append

    def limited(part, data):
        if full[0] and part.written >= 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(part, data)

    monkeypatch.setattr(Part, "append", limited)

    @run
    async def test():
        async with whole(tmp_path) as served:
            code, message, _ = await refused(served.ann.write(DATA))
            assert code is Code.RESOURCE_EXHAUSTED
            assert "No space left on device" in message
            assert str(tmp_path) not in message
            full[0] = False
            status = await served.ann.written(DATA)
            assert (status.committed_size, status.complete) == (2000, False)
            await served.ann.write(DATA, start=2000)
            assert b"".join(p.data for p in await served.ann.read(digest_of(DATA))) == DATA

    test()


@run
async def test_two_streams_of_the_same_blob_at_once_make_one_blob(tmp_path):
    data = os.urandom(1_000_000)
    async with whole(tmp_path) as served:
        await asyncio.gather(
            served.ann.write(data, step=7919),
            served.ann.write(data, step=65_536),
            served.bob.write(data, step=10_000),
        )
        for client in (served.ann, served.bob):
            pieces = await client.read(digest_of(data))
            found = hashlib.sha256(b"".join(piece.data for piece in pieces))
            assert found.hexdigest() == digest_of(data).sha256
        assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []


@run
async def test_streams_of_one_user_have_an_end(tmp_path):
    async with whole(tmp_path) as served:
        go = asyncio.Event()

        async def waiting(number):
            data = b"%d" % number * 10
            yield blobs_pb2.WriteBlobRequest(digest=digest_of(data), data=data)
            await go.wait()

        calls = [
            served.ann.blobs.WriteBlob(waiting(number), metadata=served.ann.metadata)
            for number in range(16)
        ]
        while served.parts.blobs._streams["ann"] < 16:
            await asyncio.sleep(0.01)
        code, _, details = await refused(served.ann.write(DATA))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "RetryInfo" in details
        await served.bob.write(DATA)
        go.set()
        await asyncio.gather(*calls)
        await served.ann.write(DATA)


@run
async def test_an_upload_that_sends_nothing_is_ended_and_can_be_gone_on_with(tmp_path):
    async with whole(tmp_path) as served:
        served.parts.blobs._idle_seconds = 0.1
        go = asyncio.Event()

        async def idle():
            yield blobs_pb2.WriteBlobRequest(digest=digest_of(DATA), data=DATA[:100])
            await go.wait()

        call = served.ann.blobs.WriteBlob(idle(), metadata=served.ann.metadata)
        code, message, _ = await refused(call)
        go.set()
        assert code is Code.UNAVAILABLE
        assert "QueryWriteStatus" in message
        await served.ann.write(DATA, start=100)


@run
async def test_too_many_digests_at_once_are_refused(tmp_path):
    async with whole(tmp_path) as served:
        request = blobs_pb2.FindMissingBlobsRequest(digests=[digest_of(DATA)] * 1001)
        code, message, _ = await refused(
            served.ann.call(served.ann.blobs.FindMissingBlobs, request)
        )
        assert (code, "at most 1000" in message) == (Code.INVALID_ARGUMENT, True)


@run
async def test_a_digest_of_another_size_is_another_blob(tmp_path):
    async with whole(tmp_path) as served:
        await served.ann.write(DATA)
        other = blobs_pb2.Digest(sha256=digest_of(DATA).sha256, size=len(DATA) + 1)
        request = blobs_pb2.FindMissingBlobsRequest(digests=[other])
        response = await served.ann.call(served.ann.blobs.FindMissingBlobs, request)
        assert list(response.missing) == [other]
        assert (await refused(served.ann.read(other)))[0] is Code.NOT_FOUND
