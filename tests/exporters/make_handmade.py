"""Write the dense network by hand in forms that no exporter here makes, though some do.

    python tests/exporters/make_handmade.py

Weights in the bodies of If, Loop and Scan, in functions, cut and joined, cast and scaled, on
the other side of a product; and a layer that is one number everywhere.
"""

from __future__ import annotations

import numpy as np
import onnx
from fixture_files import save, weights
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
LAYERS = (
    helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["raw"], transB=1),
    helper.make_node("Relu", ["raw"], ["hidden"]),
    helper.make_node("Gemm", ["hidden", "fc2.weight", "fc2.bias"], ["y"], transB=1),
)
X = helper.make_tensor_value_info("x", FLOAT, ["batch", 64])
Y = helper.make_tensor_value_info("y", FLOAT, ["batch", 10])


def trained():
    """Return the dense network's arrays."""
    return weights("mlp")


def model(nodes, arrays, functions=()):
    """Return a model from `x` to `y`."""
    graph = helper.make_graph(nodes, "network", [X], [Y], _tensors(arrays))
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid(function.domain, 1) for function in functions[:1]]
    made = helper.make_model(
        graph, opset_imports=opsets, ir_version=8, functions=list(functions)
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def _tensors(arrays):
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def in_branch():
    """The network in one branch of an If; the other gives zeros."""
    then = helper.make_graph(
        [*LAYERS[:2], _renamed(LAYERS[2], "then")], "then", [], [_float("then")],
        _tensors(trained()),
    )  # fmt: skip
    zeros = [
        helper.make_node("Shape", ["x"], ["size"], end=1),
        helper.make_node("Concat", ["size", "ten"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["else"]),
    ]
    otherwise = helper.make_graph(zeros, "else", [], [_float("else")])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["any"]),
        helper.make_node("If", ["any"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    return model(nodes, {"ten": np.array([10]), "zero": np.float32(0)})


def in_loop():
    """The network in a Loop that runs once, its first weight a constant of the body."""
    arrays = trained()
    weight = numpy_helper.from_array(arrays.pop("fc1.weight"))
    body = helper.make_graph(
        [
            helper.make_node("Constant", [], ["fc1.weight"], value=weight),
            *LAYERS[:2],
            _renamed(LAYERS[2], "each"),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", INT64, []),
            helper.make_tensor_value_info("going", BOOL, []),
        ],
        [helper.make_tensor_value_info("still", BOOL, []), _float("each")],
        _tensors(arrays),
    )
    nodes = [
        helper.make_node("Loop", ["once", ""], ["stacked"], body=body),
        helper.make_node("Squeeze", ["stacked", "first"], ["y"]),
    ]
    return model(nodes, {"once": np.int64(1), "first": np.array([0])})


def in_scan():
    """The network in a Scan over the samples, one after the other."""
    body = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["row", "first"], ["x_row"]),
            helper.make_node("Gemm", ["x_row", *NAMES[:2]], ["raw"], transB=1),
            *LAYERS[1:2],
            helper.make_node("Gemm", ["hidden", *NAMES[2:]], ["y_row"], transB=1),
            helper.make_node("Squeeze", ["y_row", "first"], ["out_row"]),
        ],
        "body",
        [helper.make_tensor_value_info("row", FLOAT, [64])],
        [helper.make_tensor_value_info("out_row", FLOAT, [10])],
        _tensors(trained() | {"first": np.array([0])}),
    )
    return model([helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)], {})


def in_functions():
    """The network of functions; the second weight is a constant of one."""
    arrays = trained()
    weight = numpy_helper.from_array(arrays.pop("fc2.weight"))
    opset = [helper.make_opsetid("", 17)]
    hidden = helper.make_function(
        "network", "Hidden", ["x", "weight", "bias"], ["out"],
        [
            helper.make_node("Gemm", ["x", "weight", "bias"], ["raw"], transB=1),
            helper.make_node("Relu", ["raw"], ["out"]),
        ],
        opset,
    )  # fmt: skip
    whole = helper.make_function(
        "network", "Whole", ["x", "weight", "bias", "bias2"], ["out"],
        [
            helper.make_node("Hidden", ["x", "weight", "bias"], ["inner"], domain="network"),
            helper.make_node("Constant", [], ["weight2"], value=weight),
            helper.make_node("Gemm", ["inner", "weight2", "bias2"], ["out"], transB=1),
        ],
        [*opset, helper.make_opsetid("network", 1)],
    )  # fmt: skip
    call = helper.make_node("Whole", ["x", *NAMES[:2], NAMES[3]], ["y"], domain="network")
    return model([call], arrays, [hidden, whole])


def joined():
    """The network with weights cut out of larger ones and joined."""
    arrays = trained()
    first, second = arrays.pop("fc1.weight"), arrays.pop("fc2.weight")
    rest = np.full((4, 64), 9, dtype=np.float32)
    arrays["large"] = np.concatenate([rest, first[8:], rest, first[:8]])
    arrays |= {f"row{number}": row for number, row in enumerate(second[:2])}
    arrays["many"] = np.concatenate([second[2:][::-1], second[:2]])
    constants = {
        "four": [4], "twelve": [12], "sixteen": [16], "twentyfour": [24], "zeroth": [0],
        "backwards": [7, 6, 5, 4, 3, 2, 1, 0],
    }  # fmt: skip
    arrays |= {name: np.array(value, dtype=np.int64) for name, value in constants.items()}
    nodes = [
        helper.make_node("Slice", ["large", "four", "twelve", "zeroth"], ["back"]),
        helper.make_node("Slice", ["large", "sixteen", "twentyfour", "zeroth"], ["front"]),
        helper.make_node("Concat", ["front", "back"], ["fc1.weight"], axis=0),
        *LAYERS[:2],
        helper.make_node("Unsqueeze", ["row0", "zeroth"], ["r0"]),
        helper.make_node("Unsqueeze", ["row1", "zeroth"], ["r1"]),
        helper.make_node("Gather", ["many", "backwards"], ["others"], axis=0),
        helper.make_node("Concat", ["r0", "r1", "others"], ["fc2.weight"], axis=0),
        LAYERS[2],
    ]
    return model(nodes, arrays)


def scaled():
    """The network with weights in double precision, and a scale for each channel."""
    arrays = trained()
    first, second = arrays.pop("fc1.weight"), arrays.pop("fc2.weight")
    scales = 2.0 ** (np.arange(16) % 5 - 2)[:, None]
    arrays["stored1"] = first.astype(np.float64) / scales
    arrays["scales1"] = scales.astype(np.float32)
    arrays["stored2"] = second.T.astype(np.float64) * 4
    arrays["scale2"] = np.float32(0.25)
    nodes = [
        helper.make_node("Cast", ["stored1"], ["cast1"], to=FLOAT),
        helper.make_node("Mul", ["scales1", "cast1"], ["fc1.weight"]),
        *LAYERS[:2],
        helper.make_node("Cast", ["stored2"], ["cast2"], to=FLOAT),
        helper.make_node("Mul", ["cast2", "scale2"], ["times2"]),
        helper.make_node("Transpose", ["times2"], ["fc2.weight"], perm=[1, 0]),
        LAYERS[2],
    ]
    return model(nodes, arrays)


def from_the_left():
    """The network with its weights to the left of the data, which stands in columns."""
    arrays = trained()
    for name in ("fc1.bias", "fc2.bias"):
        arrays[name] = arrays[name][:, None]
    arrays["fc2.weight"] = np.ascontiguousarray(arrays["fc2.weight"].T)
    nodes = [
        helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["fc1.weight", "columns"], ["product"]),
        helper.make_node("Add", ["product", "fc1.bias"], ["raw"]),
        LAYERS[1],
        helper.make_node("Gemm", ["fc2.weight", "hidden", "fc2.bias"], ["out"], transA=1),
        helper.make_node("Transpose", ["out"], ["y"], perm=[1, 0]),
    ]
    return model(nodes, arrays)


def uniform(form):
    """The network with a layer in between whose weight is one number everywhere."""
    arrays = trained()
    nodes = [*LAYERS[:2]]
    if form == "plain":
        arrays["between"] = np.full((16, 16), 0.0625, dtype=np.float32)
    else:
        arrays["shape"] = np.array([16, 16], dtype=np.int64)
        value = numpy_helper.from_array(np.array([0.0625], dtype=np.float32))
        if form == "constantofshape":
            made = helper.make_node("ConstantOfShape", ["shape"], ["between"], value=value)
        else:
            arrays["value"] = np.array([0.0625], dtype=np.float32)
            made = helper.make_node("Expand", ["value", "shape"], ["between"])
        nodes.append(made)
    nodes += [
        helper.make_node("Gemm", ["hidden", "between"], ["mixed"], transB=1),
        helper.make_node("Gemm", ["mixed", *NAMES[2:]], ["y"], transB=1),
    ]
    return model(nodes, arrays)


def _float(name):
    return helper.make_tensor_value_info(name, FLOAT, ["batch", 10])


def _renamed(node, output):
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = output
    return copy


if __name__ == "__main__":
    save(in_branch(), "mlp_handmade_if")
    save(in_loop(), "mlp_handmade_loop")
    save(in_scan(), "mlp_handmade_scan")
    save(in_functions(), "mlp_handmade_functions")
    save(joined(), "mlp_handmade_joined")
    save(scaled(), "mlp_handmade_scaled")
    save(from_the_left(), "mlp_handmade_left")
    for form in ("plain", "constantofshape", "expand"):
        save(uniform(form), f"uniform_handmade_{form}")
