"""Validation: specs of local runs, and precise errors for whatever strangers send."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox
from onnxscape.core.grid import Grid
from onnxscape.errors import (
    DataError,
    DeviceError,
    GridError,
    ModelFileError,
    NoParametersError,
    OnnxscapeError,
    OutOfMemoryError,
    ServerBusyError,
    UnsupportedModelError,
    UsageError,
)
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.files.limited_child import WaitingChild
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.validation import ValidationLimits, Validator

MODEL = Path(__file__).parents[3] / "models" / "digits_cnn.onnx"
W = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def blobs(tmp_path):
    """Adds content to the folder of blobs and returns its sha256."""

    def add(content):
        sha = hashlib.sha256(content).hexdigest()
        path = tmp_path / "blobs" / sha[:2] / sha
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return sha

    return add


@pytest.fixture
def validator(tmp_path):
    """Returns a validator of few seconds."""

    def make(**limits):
        values = {"seconds": 60, "memory": 4 << 30} | limits
        return Validator(
            blobs=tmp_path / "blobs", data_dir=None, limits=ValidationLimits(**values)
        )

    return make


@pytest.fixture
def order(blobs):
    return Order(
        model=blobs(MODEL.read_bytes()),
        model_name="digits_cnn",
        data=DataRef(name="digits"),
        options={"x": [-1, 1, 5], "y": [-1, 1, 5], "samples": 60},
    )


@pytest.fixture
def children(monkeypatch):
    """Counts the children that are asked."""
    asked = []
    ask = WaitingChild.answer

    async def counted(child, *arguments, **options):
        asked.append(arguments)
        return await ask(child, *arguments, **options)

    monkeypatch.setattr(WaitingChild, "answer", counted)
    return asked


@pytest.fixture
def answering(monkeypatch):
    """Has children answer what a coroutine function returns, without starting any."""

    def use(answer):
        class Child:
            alive = True

            async def answer(self, request, **_limits):
                return await answer(request)

        async def start(_validator, _name):
            return Child()

        monkeypatch.setattr(Validator, "_child", start)

    return use


def local_spec(grid="5x5", **options):
    request = EvalRequest(model=MODEL, data="digits", grid=Grid.parse(grid, 1.0), **options)
    return resolve(request, QuietObserver()).spec


def run(body):
    return asyncio.run(body)


# --- what is right ------------------------------------------------------------------------


def test_the_spec_is_that_of_a_local_run_and_is_known_for_other_seeds_and_grids(
    order, validator, children
):
    async def body():
        check = validator()
        first = await check.validate(order)
        options = order.options | {"seed": 9, "x": [-2, 1, 30], "y": [0.5, 1, 4]}
        return first, await check.validate(replace(order, options=options))

    first, second = run(body())
    assert first.spec == local_spec(samples=60)
    grid = Grid(ox.Axis(-2, 1, 30), ox.Axis(0.5, 1, 4))
    assert second.spec == replace(local_spec(samples=60, seed=9), grid=grid)
    assert second.spec.digest() != first.spec.digest()
    assert len(children) == 1
    assert (first.points, second.points) == (25, 121)  # the second's center is not on the grid
    assert 0 < first.seconds_per_point < 10
    assert 50 << 20 < first.memory < 4 << 30
    assert first.devices == ("cpu",)


def test_a_line_is_another_question_than_a_plane(order, validator, children):
    async def body():
        check = validator()
        await check.validate(order)
        return await check.validate(replace(order, options=order.options | {"y": None}))

    assert run(body()).spec == local_spec("5", samples=60)
    assert len(children) == 2


def test_equal_questions_at_the_same_time_are_asked_once(order, validator, children):
    async def body():
        check = validator()
        return await asyncio.gather(*(check.validate(order) for _ in range(20)))

    assert len({v.spec.digest() for v in run(body())}) == 1
    assert len(children) == 1


def test_only_the_last_orders_are_remembered(order, validator, answering):
    answered = []

    async def answer(request):
        answered.append(json.loads(request)["order"])
        found = {"spec": local_spec(samples=60).to_dict(), "seconds": 1.0, "memory": 1}
        return json.dumps(found | {"notes": [], "warnings": []}).encode()

    answering(answer)

    async def body():
        check = validator(cached=2)
        for name in ("a", "b", "a", "c", "a", "b"):
            await check.validate(replace(order, model_name=name))
        return [json.loads(text)["model_name"] for text in answered]

    assert run(body()) == ["a", "b", "c", "b"]


def test_a_spare_child_is_asked_once_and_replaced(order, tmp_path):
    async def body():
        check = Validator(blobs=tmp_path / "blobs", data_dir=None, spare=True)
        await check.start()
        first = check._waiting_child
        validation = await check.validate(order)
        second = check._waiting_child
        await check.close()
        return validation, first, second

    validation, first, second = run(body())
    assert validation.spec == local_spec(samples=60)
    assert first is not second
    assert not first.alive
    assert not second.alive


def test_a_spare_child_that_died_is_not_asked(order, tmp_path):
    async def body():
        check = Validator(blobs=tmp_path / "blobs", data_dir=None, spare=True)
        await check.start()
        await check._waiting_child.end()
        validation = await check.validate(order)
        await check.close()
        return validation

    assert run(body()).points == 25


def test_a_model_is_audited(blobs, validator):
    async def body():
        return await validator().audit_model(blobs(MODEL.read_bytes()), "digits_cnn")

    facts = run(body())
    audit = ox.inspect(MODEL)
    assert json.loads(facts.audit_json) == audit.to_dict()
    assert (facts.parameters, facts.moved) == (28842, 28576)
    assert facts.nodes == len(onnx.load(MODEL).graph.node)


def test_arrays_are_told(blobs, validator, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((5, 2, 3), np.float32), y=np.arange(5))

    async def body():
        sha = blobs((tmp_path / "d.npz").read_bytes())
        return await validator().inspect_data(sha, DataRef(name="d.npz"))

    assert run(body()) == [("x", "float32", (5, 2, 3)), ("y", "int64", (5,))]


# --- what is refused without a child ------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"options": {"seed": -1}}, UsageError),
        ({"options": {"seed": 2**40}}, UsageError),
        ({"options": {"x": [1, -1, 3]}}, GridError),
        ({"options": {"x": "0:1:3"}}, UsageError),
        ({"device": "cuda"}, DeviceError),
        ({"options": {"precision": "tf32"}}, DeviceError),
    ],
    ids=str,
)
def test_what_is_plainly_wrong_costs_no_child(changes, error, order, validator, children):
    with pytest.raises(error):
        run(validator().validate(replace(order, **changes)))
    assert children == []


def test_a_full_queue_is_told_at_once(order, validator, answering):
    async def body():
        go = asyncio.Event()

        async def answer(_request):
            await go.wait()
            return b'{"error": ["DataError", "no"]}'

        answering(answer)
        check = validator(waiting=2)
        tasks = [
            asyncio.create_task(check.validate(replace(order, model_name=str(number))))
            for number in range(5)
        ]
        await asyncio.sleep(0.05)
        busy = [task for task in tasks if task.done()]
        go.set()
        return busy, await asyncio.gather(*tasks, return_exceptions=True)

    busy, results = run(body())
    assert len(busy) == 2
    kinds = [type(result) for result in results]
    assert kinds == [DataError] * 3 + [ServerBusyError] * 2


def test_checks_of_a_user_take_no_more_than_their_turns_even_if_callers_leave(
    validator, answering
):
    asked = []

    async def body():
        go = asyncio.Event()

        async def answer(request):
            asked.append(json.loads(request)["model"])
            try:
                await go.wait()
            except asyncio.CancelledError:
                await go.wait()  # a child that is slow to die
                raise
            return b'{"error": ["DataError", "no"]}'

        answering(answer)
        check = validator(of_user=2)

        async def leave(sha):
            task = asyncio.create_task(check.audit_model(sha, user="ann"))
            await asyncio.sleep(0.01)
            task.cancel()
            return await asyncio.gather(task, return_exceptions=True)

        await leave("a0")  # its turn lasts until its child is dead
        waiting = [
            asyncio.create_task(check.audit_model(sha, user=user))
            for sha, user in (("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("c1", "cid"))
        ]
        await asyncio.sleep(0.01)
        done = [task.done() for task in waiting]
        go.set()
        return done, await asyncio.gather(*waiting, return_exceptions=True)

    done, results = run(body())
    assert done == [False, True, False, False]
    kinds = [type(result) for result in results]
    assert kinds == [DataError, ServerBusyError, DataError, DataError]
    assert asked == ["a0", "a1", "b1", "c1"]


def test_users_take_turns(validator, answering):
    asked = []

    async def body():
        async def answer(request):
            asked.append(json.loads(request)["model"])
            return b'{"error": ["DataError", "no"]}'

        answering(answer)
        check = validator()
        await asyncio.gather(
            *(
                check.audit_model(name, user=name[0])
                for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1")
            ),
            return_exceptions=True,
        )

    run(body())
    assert asked == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_a_check_that_nobody_waits_for_is_ended_and_asked_anew(
    order, validator, children, monkeypatch
):
    killed = []
    end = WaitingChild.end

    async def ended(child):
        killed.append(child.alive)
        await end(child)

    monkeypatch.setattr(WaitingChild, "end", ended)

    async def body():
        check = validator()
        first = asyncio.create_task(check.validate(order))
        while not children:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return await check.validate(order)

    assert run(body()).points == 25
    assert killed == [True, False]
    assert len(children) == 2


def test_closing_ends_the_checks_under_way(order, validator):
    async def body():
        check = validator()
        task = asyncio.create_task(check.validate(order))
        await asyncio.sleep(0.3)
        await check.close()
        return await asyncio.gather(task, return_exceptions=True)

    (result,) = run(body())
    assert isinstance(result, asyncio.CancelledError)


def test_who_leaves_does_not_take_the_answer_from_others(order, validator, answering):
    async def body():
        go = asyncio.Event()

        async def answer(_request):
            await go.wait()
            return b'{"error": ["DataError", "no"]}'

        answering(answer)
        check = validator()
        first, second = (asyncio.create_task(check.validate(order)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        go.set()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = run(body())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, DataError)


# --- hostile models -----------------------------------------------------------------------


def dense(nodes=(), *, weight="w", tensors=(("w", W),)):
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 3), ("y", 4))
    ]
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", weight], ["y"])],
        "graph",
        values[:1],
        values[1:],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in tensors],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(location):
    model = dense()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def shape_of(dims, model=None):
    model = model or dense()
    model.graph.initializer[0].dims[:] = dims
    return model


def many_nodes():
    nodes = [
        helper.make_node("Identity", [f"w{i}" if i else "w"], [f"w{i + 1}"]) for i in range(50)
    ]
    return dense(nodes, weight="w50")


def huge_constant():
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "s")
    node = helper.make_node("ConstantOfShape", ["s"], ["c"])
    used = helper.make_node("Add", ["w", "c"], ["v"])
    model = dense([node, used], weight="v")
    model.graph.initializer.append(shape)
    return model


HOSTILE_MODELS = {
    "external": (external("w.bin"), ModelFileError, "external data"),
    "external_path": (external("/etc/passwd"), ModelFileError, "external data"),
    "proc": (external("/proc/self/mem"), ModelFileError, "external data"),
    "memory": (external("*/_ORT_MEM_ADDR_/*"), ModelFileError, "external data"),
    "domain": (
        dense([helper.make_node("Steal", ["w"], ["v"], domain="evil.corp")], weight="v"),
        UnsupportedModelError,
        "evil.corp::Steal",
    ),
    "nodes": (many_nodes(), UnsupportedModelError, "more than 40 nodes"),
    "truncated": (dense().SerializeToString()[:40], ModelFileError, "is no ONNX model"),
    "no_model": (b"\x89PNG\r\n" * 100, ModelFileError, "is no ONNX model"),
    "empty": (b"", ModelFileError, "is no ONNX model"),
    "huge": (
        shape_of([1 << 31, 1 << 31]),
        OnnxscapeError,
        "cannot reshape array of size 12 into shape",
    ),
    "negative": (shape_of([-3, -4]), OnnxscapeError, "can only specify one unknown dimension"),
    "constant": (huge_constant(), OnnxscapeError, "constants of more than 67108864 elements"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE_MODELS)
def test_a_hostile_model_is_a_precise_error(name, blobs, validator):
    model, error, text = HOSTILE_MODELS[name]
    content = model if isinstance(model, bytes) else model.SerializeToString()

    async def body():
        await validator(model_nodes=40).audit_model(blobs(content), "their model")

    with pytest.raises(error, match=text) as caught:
        run(body())
    assert len(str(caught.value)) < 1000
    assert "/blobs/" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["external", "domain", "truncated", "huge", "constant"])
def test_an_order_of_a_hostile_model_is_a_precise_error(name, blobs, validator, tmp_path):
    model, error, text = HOSTILE_MODELS[name]
    content = model if isinstance(model, bytes) else model.SerializeToString()
    np.savez(tmp_path / "d.npz", x=np.ones((4, 3), np.float32), y=np.arange(4))
    data = DataRef(name="d.npz", blob=blobs((tmp_path / "d.npz").read_bytes()))
    order = Order(model=blobs(content), model_name="their model", data=data)
    with pytest.raises(error, match=text) as caught:
        run(validator().validate(order))
    assert "/blobs/" not in str(caught.value)


@pytest.mark.slow
def test_a_hostile_loss_is_checked_like_a_model(order, validator, blobs):
    sha = blobs(external("/etc/passwd").SerializeToString())
    ordered = replace(
        order, graphs={"my.onnx": sha}, options=order.options | {"loss": "my.onnx"}
    )
    with pytest.raises(ModelFileError, match=r"of my\.onnx stands in external data"):
        run(validator().validate(ordered))


def test_a_model_without_weights_cannot_be_ordered(blobs, validator, order):
    model = dense([], tensors=[])
    model.graph.node[0].CopyFrom(helper.make_node("Concat", ["x", "x"], ["y"], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    with pytest.raises(NoParametersError):
        run(validator().validate(replace(order, model=blobs(model.SerializeToString()))))


# --- hostile data -------------------------------------------------------------------------


def npz(**members):
    """Return a .npz file of raw members."""

    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)

    return write


def header(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def pickled(path):
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.arange(1), allow_pickle=True)


def bomb(path):
    npz(x=header((1 << 26,)) + bytes(1 << 28), y=header((1,)) + bytes(4))(path)


def cut(path):
    np.savez(path, x=np.ones((100, 3)), y=np.arange(100))
    path.write_bytes(path.read_bytes()[:900])


HOSTILE_DATA = {
    "pickled": (pickled, "object values"),
    "bomb": (bomb, "decompression bomb"),
    "huge_claim": (npz(x=header((1 << 40,)), y=header((1,)) + bytes(4)), "claims"),
    "negative": (npz(x=header((-5,)), y=header((1,)) + bytes(4)), "impossible shape"),
    "truncated": (cut, "no readable .npz file"),
    "no_arrays": (npz(), "holds no inputs"),
    "text": (lambda path: path.write_bytes(b"x,y\n1,2\n"), "no readable .npz file"),
    "code": (npz(x=header("__import__('os').getpid()")), "no array in .npy format"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE_DATA)
def test_hostile_data_are_a_precise_error(name, blobs, validator, tmp_path):
    write, text = HOSTILE_DATA[name]
    path = tmp_path / "hostile.npz"
    write(path)
    sha = blobs(path.read_bytes())
    with pytest.raises(DataError, match=text) as caught:
        run(validator().inspect_data(sha, DataRef(name="theirs.npz")))
    assert "/blobs/" not in str(caught.value)
    assert "theirs.npz" in str(caught.value)


@pytest.mark.slow
def test_data_above_the_memory_of_a_check_are_refused(blobs, validator, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((1 << 28,), np.uint8))
    sha = blobs((tmp_path / "d.npz").read_bytes())
    check = validator(memory=320 << 20)
    with pytest.raises(OutOfMemoryError, match="more memory than this server lends"):
        run(check.inspect_data(sha, DataRef(name="d.npz")))


# --- children that fail -------------------------------------------------------------------


def test_a_check_that_takes_too_long_is_refused(order, validator):
    with pytest.raises(UnsupportedModelError, match="more than 1 seconds"):
        run(validator(seconds=1).validate(order))


def test_an_error_of_ours_is_told_without_its_details(order, validator, answering, caplog):
    async def answer(_request):
        return b'{"unexpected": "Traceback: secrets", "message": "an unexpected KeyError"}'

    answering(answer)
    with pytest.raises(UnsupportedModelError, match="unexpected KeyError") as caught:
        run(validator().validate(order))
    assert "secrets" not in str(caught.value)
    assert "secrets" in caplog.text


def test_a_child_cannot_name_an_error_that_is_none(order, validator, answering):
    async def answer(_request):
        return b'{"error": ["SystemExit", "no"]}'

    answering(answer)
    with pytest.raises(UnsupportedModelError, match="no"):
        run(validator().validate(order))
