"""How a limited child process answers: the question and the answer as JSON, errors by name."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

from onnxscape.errors import OnnxscapeError, OutOfMemoryError
from onnxscape.jobs.worker_place import WorkerPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Answers = Mapping[str, Callable[[Mapping[str, Any], WorkerPlace], dict[str, Any]]]


def answered(request: bytes, answers: Answers) -> bytes:
    """Answer a question about what strangers sent.

    Args:
        request: JSON: `kind`, `place` (fields of `WorkerPlace`), and what the kind takes.
        answers: Kind to what answers.

    Returns:
        JSON: the answer; `error` with the class and the message of an error; or what was
        `unexpected`, for the log, with a `message` for people.
    """
    values = json.loads(request)
    try:
        found = answers[values["kind"]](values, WorkerPlace(**values["place"]))
    except OnnxscapeError as error:
        found = {"error": [type(error).__name__, str(error)]}
    except MemoryError:
        text = "it needs more memory than this server lends to a check"
        found = {"error": [OutOfMemoryError.__name__, text]}
    except Exception as error:  # noqa: BLE001 - the server must hear of it, whatever it is
        message = f"an unexpected {type(error).__name__}"
        found = {"unexpected": traceback.format_exc()[-4000:], "message": message}
    return json.dumps(found).encode()
