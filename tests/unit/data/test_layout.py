from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.samples import TensorSignature
from onnxscape.data.layout import arrange
from onnxscape.errors import DataError, UsageError

F4 = np.dtype(np.float32)


def place(stored, target, *, known=None, asked=None):
    """Arrange one sample that counts up, and return what becomes of it."""
    shape = None if target is None else (None, *target)
    found = arrange("x", stored, TensorSignature("input", shape, F4), known=known, asked=asked)
    values = np.arange(np.prod(stored, dtype=int)).reshape(stored).reshape(found.view)
    if found.order is not None:
        values = values.transpose(found.order)
    return values.reshape(found.shape), found


def counting(*shape):
    return np.arange(np.prod(shape)).reshape(shape)


HWC = counting(6, 5, 3)
CHW = counting(3, 6, 5)
GREY = counting(6, 5)


@pytest.mark.parametrize(
    ("stored", "target", "expected"),
    [
        # the same shape, free or fixed
        ((3, 6, 5), (3, 6, 5), CHW),
        ((3, 6, 5), (None, None, None), CHW),
        ((7,), (7,), counting(7)),
        ((7,), (None,), counting(7)),
        ((6, 5), (None, 5), GREY),
        ((2, 3, 6, 5), (2, 3, 6, 5), counting(2, 3, 6, 5)),
        ((), (), counting()),
        # channels first or last
        ((6, 5, 3), (3, 6, 5), HWC.transpose(2, 0, 1)),
        ((6, 5, 3), (3, None, None), HWC.transpose(2, 0, 1)),
        ((3, 6, 5), (6, 5, 3), CHW.transpose(1, 2, 0)),
        ((3, 6, 5), (None, None, 3), CHW.transpose(1, 2, 0)),
        # grey images
        ((6, 5), (1, 6, 5), GREY[None]),
        ((6, 5), (6, 5, 1), GREY[..., None]),
        ((6, 5), (1, None, None), GREY[None]),
        ((6, 5), (30,), GREY.ravel()),
        ((1, 6, 5), (6, 5), GREY),
        ((6, 5, 1), (6, 5), GREY),
        ((6, 5, 1), (1, 6, 5), GREY[None]),
        ((1, 6, 5), (6, 5, 1), GREY[..., None]),
        ((1, 6, 5), (30,), GREY.ravel()),
        ((6, 5, 1), (None,), GREY.ravel()),
        # rows of values
        ((30,), (1, 6, 5), GREY[None]),
        ((30,), (6, 5, 1), GREY[..., None]),
        ((30,), (6, 5), GREY),
        # single values
        ((), (1,), counting(1)),
        ((1,), (), counting(1).reshape(())),
    ],
)
def test_shapes_that_leave_no_doubt(stored, target, expected):
    values, _ = place(stored, target)
    assert values.shape == expected.shape
    assert np.array_equal(values, expected)


@pytest.mark.parametrize(
    ("stored", "target", "asked", "expected"),
    [
        ((6, 5, 3), (90,), "NHWC", HWC.ravel()),
        ((6, 5, 3), (90,), "flat", HWC.ravel()),
        ((3, 6, 5), (90,), "NCHW", CHW.ravel()),
        ((90,), (3, 6, 5), "NCHW", CHW),
        ((90,), (3, 6, 5), "flat", CHW),
        ((90,), (3, 6, 5), "NHWC", HWC.transpose(2, 0, 1)),
        ((90,), (6, 5, 3), "NHWC", HWC),
        ((90,), (6, 5, 3), "NCHW", CHW.transpose(1, 2, 0)),
        ((6, 5), (None, None, None), "NCHW", GREY[None]),
        ((6, 5), (None, None, None), "NHWC", GREY[..., None]),
        ((6, 5, 3), (3, 30), "flat", HWC.reshape(3, 30)),
        ((6, 5, 3), (3, 6, 5), "NHWC", HWC.transpose(2, 0, 1)),
    ],
)
def test_what_the_user_says_settles_the_doubtful_cases(stored, target, asked, expected):
    values, _ = place(stored, target, asked=asked)
    assert values.shape == expected.shape
    assert np.array_equal(values, expected)


@pytest.mark.parametrize(
    ("target", "asked", "expected"),
    [
        ((3, 6, 5), None, HWC.transpose(2, 0, 1)),
        ((6, 5, 3), None, HWC),
        ((3, None, None), None, HWC.transpose(2, 0, 1)),
        ((None, None, None), "NCHW", HWC.transpose(2, 0, 1)),
        ((None, None, None), "NHWC", HWC),
        (None, "NCHW", HWC.transpose(2, 0, 1)),
        ((90,), "NCHW", HWC.transpose(2, 0, 1).ravel()),
        ((90,), "NHWC", HWC.ravel()),
        ((90,), "flat", HWC.ravel()),
        ((6, 5, 3), "NCHW", HWC),
    ],
)
def test_data_of_a_known_layout_is_handed_out_in_the_layout_asked_for(target, asked, expected):
    values, found = place((6, 5, 3), target, known="NHWC", asked=asked)
    assert values.shape == expected.shape
    assert np.array_equal(values, expected)
    assert found.channel_axis == 2


@pytest.mark.parametrize(
    ("stored", "target", "known"),
    [
        ((6, 5, 3), (90,), None),
        ((6, 5, 3), (None,), "NHWC"),
        ((6, 5, 3), (None, None, None), "NHWC"),
        ((6, 5, 3), None, "NHWC"),
        ((90,), (3, 6, 5), None),
        ((6, 5), (None, None, None), None),
        ((5, 5, 5), (None, None, None), "NHWC"),
    ],
)
def test_two_readings_are_an_error_that_asks_for_the_layout(stored, target, known):
    with pytest.raises(DataError) as caught:
        place(stored, target, known=known)
    assert "--layout NCHW, NHWC or flat" in str(caught.value)
    assert f"[{', '.join(['N', *map(str, stored)])}]" in str(caught.value)
    assert TensorSignature(
        "input", None if target is None else (None, *target), F4
    ).quoted in (str(caught.value))


@pytest.mark.parametrize(
    ("stored", "target", "asked"),
    [
        ((28, 28), (3, 32, 32), None),
        ((28, 28), (1, 32, 32), None),
        ((6, 5, 3), (3, 5, 6), None),
        ((6, 5), (5, 6), None),
        ((64,), (32,), None),
        ((6, 5, 3), (3, 6, 5), "NCHW"),
        ((3, 6, 5), (3, 5, 6, 2), "flat"),
        ((90,), (3, None, None), None),
        ((3, 1, 6, 5), (3, 6, 5), None),
    ],
)
def test_shapes_that_do_not_fit_are_an_error_with_both_shapes(stored, target, asked):
    with pytest.raises(DataError) as caught:
        place(stored, target, asked=asked)
    assert "do not fit" in str(caught.value)
    assert "--layout" in str(caught.value)
    assert f"[{', '.join(['N', *map(str, stored)])}]" in str(caught.value)
    assert TensorSignature("input", (None, *target), F4).quoted in str(caught.value)


def test_a_file_whose_shape_fits_is_used_as_it_is_even_if_it_could_be_turned():
    values, found = place((5, 5, 5), (5, 5, 5))
    assert np.array_equal(values, counting(5, 5, 5))
    assert found.channel_axis is None


def test_an_input_of_unknown_rank_takes_data_from_files_as_it_is():
    values, _ = place((6, 5, 3), None)
    assert np.array_equal(values, HWC)


def test_an_input_without_batch_axis_is_an_error():
    with pytest.raises(DataError, match="batch axis"):
        arrange("x", (3,), TensorSignature("input", (), F4), known=None, asked=None)


def test_an_unknown_layout_is_an_error():
    with pytest.raises(UsageError, match="NCHW, NHWC or flat, got 'CHW'"):
        place((6, 5), (6, 5), asked="CHW")


def test_the_text_says_what_was_done():
    assert place((6, 5, 3), (3, 6, 5))[1].text == "NHWC to NCHW"
    assert place((6, 5), (1, 6, 5))[1].text == "grey as NCHW"
    assert place((6, 5), (6, 5))[1].text == "as is"
