"""What a limited child process does with models and orders of strangers: it tries them.

The server process does not import this module: it names `answer` to a child.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnxscape.core.execution import GPU_PRECISIONS
from onnxscape.errors import OnnxscapeError
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.report import outline
from onnxscape.graph.audit import inspect
from onnxscape.graph.strangers import ModelRules, check_stranger
from onnxscape.jobs.child_answers import answered
from onnxscape.jobs.job_inputs import request_of, without_paths
from onnxscape.jobs.order import Order
from onnxscape.jobs.worker_messages import shortened
from onnxscape.jobs.worker_place import TextObserver, WorkerPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.jobs.child_answers import Answers


def answer(request: bytes) -> bytes:
    """Answer a question about a model, or an order.

    Args:
        request: As for `answered`, with fields of `ModelRules` as `rules`.

    Returns:
        As of `answered`.
    """
    return answered(request, _ANSWERS)


def _validate(values: Mapping[str, Any], place: WorkerPlace) -> dict[str, Any]:
    """Resolve an order, prove its evaluation right, and time it.

    Returns:
        The spec, the seconds of a point, the memory, and what people should read.

    Raises:
        OnnxscapeError: If it cannot be computed; without paths of the server.
    """
    order, observer = Order.from_json(values["order"]), TextObserver()
    rules = ModelRules(**values["rules"])

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


def _audit(values: Mapping[str, Any], place: WorkerPlace) -> dict[str, Any]:
    """Tell what is understood of a model.

    Returns:
        The audit, and its most important numbers.
    """
    name, content = values["name"], _content(place, values["model"])
    nodes = check_stranger(content, name, ModelRules(**values["rules"]))
    audit = inspect(content, name=name)
    return {
        "audit": audit.to_dict(),
        "parameters": audit.totals.trainable_values,
        "moved": audit.totals.perturbed_values,
        "nodes": nodes,
    }


def _content(place: WorkerPlace, sha: str) -> bytes:
    return place.blob_path(sha).read_bytes()


def _most_memory() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    import resource  # noqa: PLC0415 - there is none on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


_ANSWERS: Answers = {"validate": _validate, "audit": _audit}
