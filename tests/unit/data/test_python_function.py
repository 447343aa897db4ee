from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest

from onnxscape.data.python_function import call_function, is_function_reference
from onnxscape.errors import DataError


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = list(sys.path)
    yield write
    assert sys.path == path


def test_a_function_of_the_working_folder_is_called_with_the_split(module):
    module("samples_one", "def load(split):\n    return [[1, 2]], [len(split)]")
    arrays = call_function("samples_one:load", "test")
    assert {name: value.tolist() for name, value in arrays.items()} == {
        "x": [[1, 2]],
        "y": [4],
    }


def test_a_function_without_split_is_called_without_it(module):
    module(
        "samples_two", "class A:\n    @staticmethod\n    def load():\n        return [1], [2]"
    )
    assert call_function("samples_two:A.load", "test")["y"].tolist() == [2]


@pytest.mark.parametrize(
    "result", ["{'a': [1], 'b': [2], 'y': [3]}", "({'a': [1], 'b': [2]}, [3])"]
)
def test_inputs_may_be_named(module, result):
    module("samples_three", f"def load():\n    return {result}")
    arrays = call_function("samples_three:load", "train")
    assert {name: int(value[0]) for name, value in arrays.items()} == {"a": 1, "b": 2, "y": 3}


@pytest.mark.parametrize(
    ("text", "reference", "said"),
    [
        ("", "samples_bad:load", "no function 'load'"),
        ("load = 3", "samples_bad:load", "no function 'load'"),
        ("import nothing_of_that_name", "samples_bad:load", "cannot be imported.*nothing_of"),
        ("1 /", "samples_bad:load", "cannot be imported.*SyntaxError"),
        ("def load():\n    raise ValueError('a\\nb')", "samples_bad:load", "ValueError: a b"),
        ("def load():\n    return 3", "samples_bad:load", "return .x, y. .*got int"),
        ("def load():\n    return [[1], [1, 2]], [1]", "samples_bad:load", "no array"),
        ("", "samples_missing:load", "samples_missing.*cannot be imported"),
    ],
)
def test_what_goes_wrong_is_said(module, text, reference, said):
    module("samples_bad", text)
    with pytest.raises(DataError, match=said):
        call_function(reference, "train")


def test_what_looks_like_a_function():
    assert is_function_reference("package.module:Class.load")
    assert not any(
        map(is_function_reference, ["cifar10", "C:\\data", "a:b c", "x/y.py:load", ":f", "m:"])
    )


def test_arrays_are_handed_on_without_a_copy(module):
    module("samples_four", "import numpy\nX = numpy.zeros(3)\ndef load():\n    return X, X")
    arrays = call_function("samples_four:load", "train")
    assert arrays["x"] is sys.modules["samples_four"].X
    assert isinstance(arrays["y"], np.ndarray)
