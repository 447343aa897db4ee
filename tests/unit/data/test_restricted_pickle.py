from __future__ import annotations

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from onnxscape.data.restricted_pickle import read_pickle
from onnxscape.errors import DataError


def array(shape, values, dtype=b"u1", fortran=False):
    """An array of bytes as Python 2 pickles it with protocol 2."""
    rows, columns = shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
        b"(K\x01" + b"".join(b"J" + struct.pack("<i", n) for n in (rows, columns)) + b"\x86"
        b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x88" if fortran else b"\x89")
        + (b"T" + struct.pack("<i", len(values)) + values)
        + b"tb"
    )


def batch(images, labels):
    """A batch of CIFAR-10 as Python 2 pickled it."""
    body = b"U\x0bbatch_labelU\x05batchU\x06labels](" + b"".join(
        b"K" + bytes([label]) for label in labels
    )
    body += b"eU\x04data" + array(images.shape, images.tobytes())
    return b"\x80\x02}(" + body + b"U\tfilenames](U\x05a.pngU\x05b.pngeu."


def test_a_batch_as_python_2_wrote_it_is_read():
    images = np.arange(8, dtype=np.uint8).reshape(2, 4)
    found = read_pickle(batch(images, [3, 9]), "batch")
    assert found[b"labels"] == [3, 9]
    assert np.array_equal(found[b"data"], images)
    assert found[b"data"].dtype == np.uint8
    assert found[b"filenames"] == [b"a.png", b"b.png"]


def test_the_pickle_of_this_test_is_one_that_python_reads_too():
    # Pins the test's own writer: the unrestricted unpickler agrees.
    images = np.arange(8, dtype=np.uint8).reshape(2, 4)
    content = batch(images, [1, 2]).replace(b"numpy.core.", b"numpy._core.")
    plain = pickle.loads(content, encoding="bytes")  # noqa: S301 - our own bytes
    found = read_pickle(content, "batch")
    assert np.array_equal(plain[b"data"], found[b"data"])
    assert plain[b"labels"] == found[b"labels"]


def test_an_array_in_column_order_is_read():
    images = np.arange(8, dtype=np.uint8).reshape(2, 4)
    content = b"\x80\x02}U\x01d" + array((2, 4), images.tobytes("F"), fortran=True) + b"s."
    assert np.array_equal(read_pickle(content, "p")[b"d"], images)


class Attack:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path, protocol):
    witness = tmp_path / "ran"
    content = pickle.dumps({"data": Attack(os.system, f"touch {witness}")}, protocol)
    with pytest.raises(DataError, match="not allowed"):
        read_pickle(content, "batch")
    assert not witness.exists()


@pytest.mark.parametrize(
    "attack",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        b"(S'1'\ni__builtin__\neval\n.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x82\x01.",
        b"P1\n.",
    ],
)
def test_every_other_way_to_a_function_is_refused(attack):
    with pytest.raises(DataError, match="no pickle that is read here"):
        read_pickle(attack, "batch")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "numbers an object"),
        (b"\x80\x02}p99999999999\n.", "numbers an object"),
        (b"\x80\x02T\xff\xff\xff\x7fabc.", "expected"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.", None),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00abc.", None),
        (
            b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR.",
            "directly|positional|argument",
        ),
        (b"\x80\x02}U\x01d" + array((1 << 30, 1 << 30), b"12") + b"s.", "does not fit"),
        (b"\x80\x02}U\x01d" + array((2, 1), b"12", dtype=b"O8") + b"s.", "else than bytes"),
        (b"\x80\x02}U\x01d" + array((2, 1), b"12")[:-5] + b"s.", None),
        (b"\x80\x02](K\x01e.", None),
        (b"", None),
        (b".", None),
        (b"(" * 1000, None),
    ],
)
def test_broken_or_greedy_pickles_are_refused_in_little_memory(content, said):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said) as caught:
            read_pickle(content, "batch")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "batch is no pickle that is read here" in str(caught.value)
