import asyncio
import time
from unittest import mock

import grpc
import pytest
from whole_server import digest_of, refused, run, whole

from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import JobEvent
from onnxscape.service.catalog.records import EVERYBODY
from onnxscape.v1 import catalog_pb2, jobs_pb2, server_pb2
from onnxscape.version import __version__

Code = grpc.StatusCode


async def model_of(client, data=b"model", name="a model"):
    await client.write(data)
    request = catalog_pb2.CreateModelRequest(blob=digest_of(data), display_name=name)
    return (await client.call(client.catalog.CreateModel, request)).model


async def data_of(client, data=b"arrays", **fields):
    await client.write(data)
    request = catalog_pb2.CreateDataSetRequest(blob=digest_of(data), **fields)
    return (await client.call(client.catalog.CreateDataSet, request)).data_set


async def models_of(client, **fields):
    request = catalog_pb2.ListModelsRequest(**fields)
    return await client.call(client.catalog.ListModels, request)


@run
async def test_a_model_is_what_its_reader_found(tmp_path):
    async with whole(tmp_path) as served:
        model = await model_of(served.ann)
        assert model.blob == digest_of(b"model")
        assert model.display_name == "a model"
        assert (model.parameter_count, model.moved_count) == (20, 10)
        assert not model.public
        request = catalog_pb2.GetModelRequest(name=model.name)
        assert (await served.ann.call(served.ann.catalog.GetModel, request)).model == model
        request = catalog_pb2.InspectModelRequest(name=model.name)
        response = await served.ann.call(served.ann.catalog.InspectModel, request)
        assert response.audit_json == '{"tensors": []}'


@run
async def test_registering_a_model_again_reads_nothing_and_gives_the_same(tmp_path):
    async with whole(tmp_path) as served:
        first = await model_of(served.ann)
        again = await model_of(served.ann, name="")
        assert again == first
        renamed = await model_of(served.ann, name="another name")
        assert (renamed.name, renamed.display_name) == (first.name, "another name")
        assert len(served.parts.validator.asked) == 1
        assert len((await models_of(served.ann)).models) == 1


@run
async def test_what_is_no_model_is_refused_and_not_registered(tmp_path):
    async with whole(tmp_path) as served:
        code, message, _ = await refused(model_of(served.ann, b"bad bytes"))
        assert (code, "expected an ONNX model" in message) == (Code.INVALID_ARGUMENT, True)
        assert list((await models_of(served.ann)).models) == []


def order_job(store, user, model):
    """Store a job on a model, which nobody computes."""
    store.create_job(
        user=user,
        order=Order(model=model, model_name="m", data=DataRef(name="digits")),
        spec="{}",
        display_name="",
        priority=0,
        estimate=Estimate(1, 1.0, 1),
        notes=(),
        warnings=(),
        total=1,
        request_id=None,
        now=1.0,
    )


@run
async def test_the_models_and_data_of_others_are_not_found_by_any_method(tmp_path):
    async with whole(tmp_path) as served:
        model, data = await model_of(served.ann), await data_of(served.ann)
        bob, catalog = served.bob, catalog_pb2
        for method, request in (
            ("GetModel", catalog.GetModelRequest(name=model.name)),
            ("DeleteModel", catalog.DeleteModelRequest(name=model.name)),
            ("InspectModel", catalog.InspectModelRequest(name=model.name)),
            ("GetDataSet", catalog.GetDataSetRequest(name=data.name)),
            ("DeleteDataSet", catalog.DeleteDataSetRequest(name=data.name)),
        ):
            code, message, _ = await refused(bob.call(getattr(bob.catalog, method), request))
            assert code is Code.NOT_FOUND, method
            assert "ann" not in message
        assert list((await models_of(bob)).models) == []
        request = catalog.ListDataSetsRequest()
        assert list((await bob.call(bob.catalog.ListDataSets, request)).data_sets) == []
        spec = jobs_pb2.JobSpec(model=model.name, data=data.name)
        code, _, _ = await refused(
            bob.call(bob.jobs.CreateJob, jobs_pb2.CreateJobRequest(spec=spec))
        )
        assert code is Code.NOT_FOUND
        request = catalog.GetModelRequest(name=model.name)
        assert (await served.ann.call(served.ann.catalog.GetModel, request)).model == model


@pytest.mark.parametrize(
    "name",
    [
        "",
        "models/",
        "models/../x",
        "models/a/b",
        "dataSets/x",
        "models/\0",
        "models/" + "a" * 999,
    ],
)
def test_names_that_are_none_are_refused(tmp_path, name):
    @run
    async def test():
        async with whole(tmp_path) as served:
            request = catalog_pb2.GetModelRequest(name=name)
            code, _, details = await refused(
                served.ann.call(served.ann.catalog.GetModel, request)
            )
            assert code is Code.INVALID_ARGUMENT
            assert details["BadRequest"].field_violations[0].field == "name"

    test()


@run
async def test_lists_come_in_pages_the_newest_first(tmp_path):
    async with whole(tmp_path) as served:
        made = [await model_of(served.ann, b"%d" % number, "") for number in range(5)]
        await model_of(served.bob, b"bob's")
        found, token = [], ""
        for _ in range(3):
            page = await models_of(served.ann, page_size=2, page_token=token)
            found += page.models
            token = page.next_page_token
        assert token == ""
        assert found == made[::-1]
        assert len((await models_of(served.ann)).models) == 5
        assert len((await models_of(served.ann, page_size=100_000)).models) == 5


@run
async def test_a_page_goes_on_behind_what_was_deleted_meanwhile(tmp_path):
    async with whole(tmp_path) as served:
        made = [await model_of(served.ann, b"%d" % number) for number in range(4)]
        page = await models_of(served.ann, page_size=2)
        request = catalog_pb2.DeleteModelRequest(name=made[2].name)
        await served.ann.call(served.ann.catalog.DeleteModel, request)
        page = await models_of(served.ann, page_size=2, page_token=page.next_page_token)
        assert [model.name for model in page.models] == [made[1].name, made[0].name]


@run
async def test_tokens_of_pages_are_checked_and_show_nothing_of_others(tmp_path):
    async with whole(tmp_path) as served:
        for number in range(3):
            await model_of(served.ann, b"%d" % number)
        token = (await models_of(served.ann, page_size=1)).next_page_token
        assert list((await models_of(served.bob, page_token=token)).models) == []
        request = catalog_pb2.ListDataSetsRequest(page_token=token)
        wrong = [models_of(served.ann, page_token=text) for text in ("x", token + "A", "ö")]
        for call in (*wrong, served.ann.call(served.ann.catalog.ListDataSets, request)):
            code, _, details = await refused(call)
            assert code is Code.INVALID_ARGUMENT
            assert details["BadRequest"].field_violations[0].field == "page_token"
        code, _, _ = await refused(models_of(served.ann, page_size=-1))
        assert code is Code.INVALID_ARGUMENT


@run
async def test_deleting_a_model_gives_its_bytes_back_to_the_quota(tmp_path):
    async with whole(tmp_path, quota_blob_bytes=10) as served:
        model = await model_of(served.ann, b"0123456789")
        assert (await refused(served.ann.write(b"x")))[0] is Code.RESOURCE_EXHAUSTED
        request = catalog_pb2.DeleteModelRequest(name=model.name)
        await served.ann.call(served.ann.catalog.DeleteModel, request)
        await served.ann.write(b"x")
        assert await served.ann.missing(b"0123456789") == [digest_of(b"0123456789")]


@run
async def test_a_deleted_model_tells_nothing_of_the_jobs_of_others_on_its_bytes(tmp_path):
    async with whole(tmp_path) as served:
        data = b"both have it"
        order_job(served.parts.store, "bob", digest_of(data).sha256)
        model = await model_of(served.ann, data)
        request = catalog_pb2.DeleteModelRequest(name=model.name)
        await served.ann.call(served.ann.catalog.DeleteModel, request)
        assert await served.ann.missing(data) == [digest_of(data)]
        assert served.parts.catalog.grants.total("ann") == 0


@run
async def test_a_deleted_model_keeps_its_bytes_for_a_job_of_the_same_user(tmp_path):
    async with whole(tmp_path) as served:
        model = await model_of(served.ann, b"it is used")
        order_job(served.parts.store, "ann", digest_of(b"it is used").sha256)
        request = catalog_pb2.DeleteModelRequest(name=model.name)
        await served.ann.call(served.ann.catalog.DeleteModel, request)
        assert await served.ann.missing(b"it is used") == []


@run
async def test_bytes_that_something_else_is_made_of_stay(tmp_path):
    async with whole(tmp_path) as served:
        model, data = await model_of(served.ann, b"both"), await data_of(served.ann, b"both")
        request = catalog_pb2.DeleteModelRequest(name=model.name)
        await served.ann.call(served.ann.catalog.DeleteModel, request)
        assert await served.ann.missing(b"both") == []
        request = catalog_pb2.DeleteDataSetRequest(name=data.name)
        await served.ann.call(served.ann.catalog.DeleteDataSet, request)
        assert await served.ann.missing(b"both") == [digest_of(b"both")]


@run
async def test_data_that_is_read_in_another_way_is_another_data_set(tmp_path):
    async with whole(tmp_path) as served:
        plain = await data_of(served.ann)
        form = catalog_pb2.DataFormat(
            layout="NCHW", preprocessing=catalog_pb2.Preprocessing(scale=255, mean=[0.5])
        )
        images = await data_of(served.ann, format=form, display_name="images")
        assert images.name != plain.name
        assert images.format == form
        assert [(a.name, a.dtype, list(a.shape)) for a in plain.arrays] == [
            ("x", "float32", [5, 2]),
            ("y", "int64", [5]),
        ]
        assert await data_of(served.ann, format=form) == images


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (catalog_pb2.DataFormat(layout="CHW"), "format.layout"),
        (
            catalog_pb2.DataFormat(preprocessing=catalog_pb2.Preprocessing(scale=0)),
            "format.preprocessing.scale",
        ),
        (
            catalog_pb2.DataFormat(
                preprocessing=catalog_pb2.Preprocessing(mean=[float("nan")])
            ),
            "format.preprocessing.mean[0]",
        ),
        (
            catalog_pb2.DataFormat(preprocessing=catalog_pb2.Preprocessing(std=[1, -1])),
            "format.preprocessing.std[1]",
        ),
    ],
)
def test_formats_that_mean_nothing_are_refused(tmp_path, form, field):
    @run
    async def test():
        async with whole(tmp_path) as served:
            code, _, details = await refused(data_of(served.ann, format=form))
            assert code is Code.INVALID_ARGUMENT
            assert details["BadRequest"].field_violations[0].field == field

    test()


@run
async def test_what_the_server_offers_is_there_for_all_and_nobody_deletes_it(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"net")
    (tmp_path / "points.npz").write_bytes(b"points")
    offered = {
        "models": {"net": tmp_path / "net.onnx"},
        "data_files": {"points": tmp_path / "points.npz"},
        "data": ("digits",),
    }
    async with whole(tmp_path / "server", **offered) as served:
        for client in (served.ann, served.bob):
            (model,) = (await models_of(client)).models
            assert (model.name, model.public) == ("models/net", True)
            request = catalog_pb2.ListDataSetsRequest()
            found = (await client.call(client.catalog.ListDataSets, request)).data_sets
            assert {data.name for data in found} == {"dataSets/points", "dataSets/digits"}
            digits = next(data for data in found if data.name == "dataSets/digits")
            assert list(digits.splits) == ["train", "test"]
            assert not digits.HasField("blob")
            request = catalog_pb2.DeleteModelRequest(name="models/net")
            code, _, _ = await refused(client.call(client.catalog.DeleteModel, request))
            assert code is Code.FAILED_PRECONDITION
        # Its bytes are nobody's: that they are offered as a model does not let them be read.
        assert (await refused(served.ann.read(digest_of(b"net"))))[0] is Code.NOT_FOUND
        assert served.parts.validator.asked == [
            digest_of(b"net").sha256,
            digest_of(b"points").sha256,
        ]
    async with whole(tmp_path / "server", models=offered["models"]) as served:
        assert served.parts.validator.asked == []
        assert served.parts.catalog.data_sets.page(EVERYBODY, limit=10) == []
        assert len((await models_of(served.ann)).models) == 1
    async with whole(tmp_path / "server") as served:
        assert list((await models_of(served.ann)).models) == []


@run
async def test_one_user_does_not_keep_the_reader_busy_for_the_others(tmp_path):
    async with whole(tmp_path) as served:
        go = served.parts.validator.go = asyncio.Event()
        for number in range(5):
            await served.ann.write(b"%d" % number)
        calls = [asyncio.create_task(model_of(served.ann, b"%d" % n)) for n in range(4)]
        while len(served.parts.validator.asked) < 4:
            await asyncio.sleep(0.01)
        code, _, details = await refused(model_of(served.ann, b"4"))
        assert (code, "RetryInfo" in details) == (Code.RESOURCE_EXHAUSTED, True)
        other = asyncio.create_task(model_of(served.bob, b"bob's"))
        go.set()
        await asyncio.gather(*calls, other)
        await model_of(served.ann, b"4")


@run
async def test_entries_of_a_user_have_an_end(tmp_path):
    async with whole(tmp_path) as served:
        module = "onnxscape.service.catalog.catalog_service.MOST_ENTRIES"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, 2)
            await model_of(served.ann, b"1")
            await model_of(served.ann, b"2")
            assert (await refused(model_of(served.ann, b"3")))[0] is Code.RESOURCE_EXHAUSTED
            await model_of(served.ann, b"2")
            await model_of(served.bob, b"3")


@run
async def test_the_server_tells_its_limits_and_what_the_caller_uses(tmp_path):
    async with whole(tmp_path, quota_jobs=7, users={"ann": {"weight": 2.5}}) as served:
        await served.ann.write(b"12345")
        request = server_pb2.GetServerInfoRequest()
        info = await served.ann.call(served.ann.about.GetServerInfo, request)
        assert info.version == __version__
        assert info.limits.message_bytes == 4 << 20
        assert (info.quota.user, info.quota.weight) == ("ann", 2.5)
        assert (info.quota.active_jobs_limit, info.quota.blob_bytes) == (7, 5)
        assert [device.name for device in info.devices] == ["cpu"]
        other = await served.bob.call(served.bob.about.GetServerInfo, request)
        assert (other.quota.user, other.quota.weight, other.quota.blob_bytes) == ("bob", 1, 0)


@pytest.mark.parametrize(("keep", "left"), [(0.0, 2), (1e9, 2), (60.0, 1)])
def test_housekeeping_deletes_jobs_whose_time_is_over(tmp_path, keep, left):
    async def idle(_clean):
        """Stand in for the server's own housekeeping, which would be the first."""

    @run
    async def test():
        async with whole(tmp_path, keep_jobs=keep) as served:
            store = served.parts.store
            for model in ("a" * 64, "b" * 64):
                order_job(store, "ann", model)
            done, _ = store.jobs("ann", limit=9)
            store.move(done.id, JobEvent.CANCEL, now=time.time() - 3600)
            went = await served.parts.clean()
            assert went.jobs == 2 - left
            assert len(store.jobs("ann", limit=9)) == left

    with mock.patch("onnxscape.service.server.keep_house", idle):
        test()
