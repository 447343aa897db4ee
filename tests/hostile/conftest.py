"""Hostile models, read by the program itself in a process that has little memory and time."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SECONDS = 120
"""Time for one model. An ordinary small one takes a fraction of a second."""

W = np.arange(12, dtype=np.float32).reshape(3, 4)


@dataclass(frozen=True)
class Outcome:
    """What the program said of a model."""

    status: int
    stderr: str


class LimitedProgram:
    """Runs the command line again and again in one limited process; a new one if it dies."""

    def __init__(self):
        self._process = None

    def run(self, arguments):
        if self._process is None or self._process.poll() is not None:
            script = Path(__file__).with_name("limited_program.py")
            self._process = subprocess.Popen(
                [sys.executable, script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._process.kill()
            why = "died" if ready else f"took more than {SECONDS} seconds"
            pytest.fail(f"the program {why}: {self._process.communicate()[1][-2000:]}")
        return Outcome(**json.loads(line))

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture(scope="session")
def program():
    program = LimitedProgram()
    yield program
    program.close()


@pytest.fixture
def evaluate(tmp_path, program):
    """Returns what `onnxscape eval` says of a model: its bytes, a message, or a path."""

    def run(model, *options):
        path = tmp_path / "net.onnx"
        if isinstance(model, onnx.ModelProto):
            model = model.SerializeToString()
        if isinstance(model, bytes):
            path.write_bytes(model)
        else:
            path = model
        data = tmp_path / "data.npz"
        np.savez(data, x=np.ones((4, 3), np.float32), y=np.arange(4))
        return program.run(
            [
                *("eval", str(path), "--data", str(data), "--grid", "3", "--threads", "1"),
                *("--no-plot", "--out", str(tmp_path / "out.h5"), *options),
            ]
        )

    return run


@pytest.fixture
def refused(evaluate):
    """Returns a check that a model is refused in one clear line, with one of two statuses."""

    def check(model, *options):
        outcome = evaluate(model, *options)
        assert outcome.status in {2, 4}, outcome
        *before, line = outcome.stderr.strip().splitlines()
        assert all("warning: " in text for text in before), outcome.stderr
        assert line.startswith("onnxscape: error: "), line
        assert len(line) < 600
        return line

    return check


@pytest.fixture
def dense():
    """Returns y = x @ w with further nodes before, tensors, and what else a model has."""

    def build(nodes=(), tensors=None, *, weight="w", opset=17, output="y"):
        values = {"x": ["n", 3], output: ["n", 4]}
        made = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in values.items()
        ]
        tensors = {"w": W} if tensors is None else tensors
        graph = helper.make_graph(
            [*nodes, helper.make_node("MatMul", ["x", weight], ["y"])],
            "graph",
            made[:1],
            made[1:],
            [numpy_helper.from_array(np.asarray(a), name) for name, a in tensors.items()],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )

    return build
