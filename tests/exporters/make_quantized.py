"""Quantize torch's exports with ONNX Runtime, by all roads that it has.

python tests/exporters/make_quantized.py

Static quantization writes QuantizeLinear and DequantizeLinear around float operators (`qdq`)
or operators on integers (`qoperator`); dynamic quantization measures activations as it runs;
`nbits` packs the weights of MatMul into four bits.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
from fixture_files import MODELS, save, training_digits
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

CALIBRATION = 256
FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}


class Digits(CalibrationDataReader):
    """Training digits in the shape of a model's input, all at once."""

    def __init__(self, model):
        value = model.graph.input[0]
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim[1:]]
        x = training_digits()[0][:CALIBRATION].reshape(-1, *shape)
        self.left = [{value.name: x}]

    def get_next(self):
        return self.left.pop() if self.left else None


def static(name, form, **options):
    """Return a fixture quantized with ranges measured on training digits."""

    def quantize(source, target):
        reader = Digits(onnx.load(source))
        quantize_static(source, target, reader, quant_format=FORMATS[form], **options)

    return _quantized(name, quantize)


def dynamic(name, **options):
    """Return a fixture whose activations are quantized as it runs."""
    return _quantized(name, lambda source, target: quantize_dynamic(source, target, **options))


def nbits(name, **options):
    """Return a fixture whose MatMul weights are packed into four bits."""
    quantizer = MatMulNBitsQuantizer(onnx.load(MODELS / f"{name}.onnx"), **options)
    quantizer.process()
    return quantizer.model.model


def _quantized(name, quantize):
    with tempfile.TemporaryDirectory() as folder:
        prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(MODELS / f"{name}.onnx", prepared, skip_symbolic_shape=True)
        quantize(prepared, target)
        return onnx.load(target)


def make_static():
    """The small CNN, the dense network and the block, activations calibrated."""
    channels = {"per_channel": True, "weight_type": QuantType.QInt8, "reduce_range": False}
    for network, source in (
        ("cnn", "cnn_torch_legacy_folding_eval"),
        ("mlp", "mlp_torch_legacy_nofolding"),
    ):
        for form in FORMATS:
            save(static(source, form), f"{network}_quantized_{form}")
            model = static(source, form, **channels)
            save(model, f"{network}_quantized_{form}_perchannel")
    source = "block_torch_legacy_folding"
    save(static(source, "qoperator"), "block_quantized_qoperator")
    save(static(source, "qdq", **channels), "block_quantized_qdq_perchannel")
    unsigned = {"weight_type": QuantType.QUInt8, "activation_type": QuantType.QUInt8}
    model = static("cnn_torch_legacy_folding_eval", "qoperator", **unsigned)
    save(model, "cnn_quantized_qoperator_unsigned")


def make_dynamic():
    """Dense, convolutional and recurrent networks, activations measured as they run."""
    for network, source in (
        ("mlp", "mlp_torch_legacy_nofolding"),
        ("block", "block_torch_legacy_folding"),
        ("gptuntied", "gptuntied_torch_dynamo_optimized"),
        ("lstm", "lstm_torch_legacy_folding"),
    ):
        save(dynamic(source, weight_type=QuantType.QInt8), f"{network}_quantized_dynamic")
    perchannel = {"weight_type": QuantType.QInt8, "per_channel": True}
    save(
        dynamic("mlp_torch_legacy_nofolding", **perchannel), "mlp_quantized_dynamic_perchannel"
    )
    # ONNX Runtime has no kernel of ConvInteger for signed weights.
    unsigned = {"weight_type": QuantType.QUInt8}
    save(dynamic("cnn_torch_legacy_folding_eval", **unsigned), "cnn_quantized_dynamic")


def make_packed():
    """The block and a GPT, weights of four bits, with and without zero points."""
    block, gpt = "block_torch_legacy_folding", "gptuntied_torch_dynamo_optimized"
    options = {"block_size": 16, "is_symmetric": True}
    save(nbits(block, **options), "block_quantized_nbits_symmetric")
    save(nbits(gpt, **options), "gptuntied_quantized_nbits_symmetric")
    asymmetric = options | {"is_symmetric": False}
    save(nbits(block, **asymmetric), "block_quantized_nbits_asymmetric")


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)
    make_static()
    make_dynamic()
    make_packed()
