"""What a limited child process does with what strangers sent: it reads, and it tries.

The server process does not import this module: it names `answer` to `await_child`.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnxscape.data.arrays import npz_names
from onnxscape.data.dataset import LABELS
from onnxscape.errors import OnnxscapeError, OutOfMemoryError
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.report import outline
from onnxscape.graph.audit import inspect
from onnxscape.graph.strangers import ModelRules, check_stranger
from onnxscape.jobs.job_inputs import dataset_of, request_of, without_paths
from onnxscape.jobs.loaded_jobs import TextObserver, WorkerPlace
from onnxscape.jobs.order import GPU_PRECISIONS, DataRef, Order
from onnxscape.jobs.worker_messages import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnxscape.evaluation.inputs import EvalInputs


def answer(request: bytes) -> bytes:
    """Answer a question about what strangers sent.

    Args:
        request: JSON: `kind`, `place` (fields of `WorkerPlace`), `rules` (of `ModelRules`),
            and what the kind takes.

    Returns:
        JSON: the answer; or `error` with the class and the message of an error.
    """
    values = json.loads(request)
    place, rules = WorkerPlace(**values["place"]), ModelRules(**values["rules"])
    try:
        found = _ANSWERS[values["kind"]](values, place, rules)
    except OnnxscapeError as error:
        found = {"error": [type(error).__name__, str(error)]}
    except MemoryError:
        text = "it needs more memory than this server lends to the check of an order"
        found = {"error": [OutOfMemoryError.__name__, text]}
    except Exception as error:  # noqa: BLE001 - the server must hear of it, whatever it is
        message = f"an unexpected {type(error).__name__}"
        found = {"unexpected": traceback.format_exc()[-4000:], "message": message}
    return json.dumps(found).encode()


def _validate(
    values: Mapping[str, Any], place: WorkerPlace, rules: ModelRules
) -> dict[str, Any]:
    """Resolve an order, prove its evaluation right, and time it.

    Returns:
        The spec, the seconds of a point, the memory, and what people should read.

    Raises:
        OnnxscapeError: If it cannot be computed; without paths of the server.
    """
    order, observer = Order.from_json(values["order"]), TextObserver()

    def told(text: str) -> str:
        return shortened(without_paths(order, place.blob_path, text))

    try:
        graphs = ((sha, name) for name, sha in order.graphs.items())
        for sha, name in [(order.model, order.model_name), *graphs]:
            check_stranger(_content(place, sha), name, rules)
        request = request_of(
            order,
            place.blob_path,
            device=values["kind_of_device"],
            threads=place.threads,
            data_dir=place.data_folder,
            offline=place.offline,
        )
        inputs = resolve(request, observer)
        engine_notes = TextObserver()  # of this machine's CPU: the worker says its own
        timed = _for_the_cpu(inputs)
        seconds = outline(timed, start_engine(timed, None, engine_notes), {}).seconds_per_point
    except OnnxscapeError as error:
        error.args = (told(str(error)),)
        raise
    return {
        "spec": inputs.spec.to_dict(),
        "seconds": seconds,
        "memory": _most_memory(),
        "notes": list(map(told, observer.notes)),
        "warnings": list(map(told, observer.warnings)),
    }


def _for_the_cpu(inputs: EvalInputs) -> EvalInputs:
    """Return what can be tried here, where a GPU would need more address space than there is.

    That is the same on the CPU, in arithmetic that it has.
    """
    request = inputs.request
    if request.device == "cpu":
        return replace(inputs, request=replace(request, workers=1))
    request = replace(request, device="cpu", workers=1, strategy=None, batch_size=None)
    if request.precision in GPU_PRECISIONS:
        return resolve(replace(request, precision="fp32"), TextObserver())
    return replace(inputs, request=request)


def _audit(values: Mapping[str, Any], place: WorkerPlace, rules: ModelRules) -> dict[str, Any]:
    """Tell what is understood of a model.

    Returns:
        The audit, and its most important numbers.
    """
    name, content = values["name"], _content(place, values["model"])
    nodes = check_stranger(content, name, rules)
    audit = inspect(content, name=name)
    return {
        "audit": audit.to_dict(),
        "parameters": audit.totals.trainable_values,
        "moved": audit.totals.perturbed_values,
        "nodes": nodes,
    }


def _look_at_data(
    values: Mapping[str, Any], place: WorkerPlace, _rules: ModelRules
) -> dict[str, Any]:
    """Read arrays, and tell what they are.

    Returns:
        Name, type and shape of each.

    Raises:
        OnnxscapeError: If they are no data set; without paths of the server.
    """
    ref = DataRef(**values["data"] | {"arrays": tuple(values["data"]["arrays"])})
    path = place.blob_path(ref.blob or "")
    try:
        data = dataset_of(ref, "train", place.blob_path, data_dir=None, offline=True)
        arrays = dict(data.fields) | ({} if data.labels is None else {LABELS: data.labels})
        names = npz_names(path)
    except OnnxscapeError as error:
        error.args = (shortened(str(error).replace(str(path), ref.name)),)
        raise
    found = [[name, str(arrays[name].dtype), list(arrays[name].shape)] for name in names]
    return {"arrays": found}


def _content(place: WorkerPlace, sha: str) -> bytes:
    return place.blob_path(sha).read_bytes()


def _most_memory() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    import resource  # noqa: PLC0415 - there is none on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


_ANSWERS: Mapping[
    str, Callable[[Mapping[str, Any], WorkerPlace, ModelRules], dict[str, Any]]
] = {"validate": _validate, "audit": _audit, "data": _look_at_data}
