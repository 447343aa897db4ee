"""Convert torch's exports to half precision with onnxconverter-common, as is usual.

python tests/exporters/make_float16.py
"""

from __future__ import annotations

import warnings

import onnx
from fixture_files import MODELS, save
from onnxconverter_common.float16 import convert_float_to_float16


def converted(name, **options):
    """Return a fixture in half precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_float_to_float16(onnx.load(MODELS / f"{name}.onnx"), **options)


if __name__ == "__main__":
    cnn, lstm = "cnn_torch_legacy_folding_eval", "lstm_torch_legacy_folding"
    save(converted(cnn, keep_io_types=True), "cnn_float16_ends")
    save(converted(cnn), "cnn_float16_whole")
    save(converted(lstm, keep_io_types=True), "lstm_float16_ends")
    save(converted(lstm), "lstm_float16_whole")
    save(converted("gptuntied_torch_dynamo_plain"), "gptuntied_float16_whole")
