"""Models of strangers: what reaches outside the file, or is too large, is refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscape.errors import ModelFileError, UnsupportedModelError
from onnxscape.graph.strangers import ModelRules, check_stranger

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


@pytest.fixture
def dense(make_model):
    """Returns y = x @ w and further nodes."""

    def build(nodes=(), **options):
        matmul = node("MatMul", "x w", "y")
        return make_model(
            [matmul, *nodes], {"x": ["n", 3]}, {"y": ["n", 4]}, {"w": W}, **options
        )

    return build


def check(model, **rules):
    return check_stranger(model.SerializeToString(), "net", ModelRules(**rules))


def outside(location):
    """Return a tensor whose values stand in a file."""
    tensor = numpy_helper.from_array(W, "v")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_nodes_are_counted(dense):
    assert check(dense()) == 1
    assert check(dense([node("Relu", "y", "z"), node("Neg", "z", "a")])) == 3


LOCATIONS = [
    "weights.bin",
    "../../etc/passwd",
    "/etc/passwd",
    "/proc/self/environ",
    "*/_ORT_MEM_ADDR_/*",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_weight_in_a_file_is_refused(location, dense):
    model = dense()
    model.graph.initializer.append(outside(location))
    with pytest.raises(ModelFileError, match="'v' of net stands in external data"):
        check(model)


def in_attribute(model):
    model.graph.node.append(helper.make_node("Constant", [], ["v"], value=outside("w")))


def in_list(model):
    attribute = onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(outside("w"))
    model.graph.node[0].attribute.append(attribute)


def in_subgraph(model):
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    graph = helper.make_graph([], "then", [], [value], [outside("w")])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=graph))


def in_function(model):
    constant = helper.make_node("Constant", [], ["v"], value=outside("w"))
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("own", "f", [], ["v"], [constant], [opset]))


def in_sparse_tensor(model):
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside("w"))


def in_training(model):
    model.training_info.add().initialization.initializer.append(outside("w"))


def in_default(model):
    in_function(model)
    default = model.functions[0].attribute_proto.add(name="d")
    default.t.CopyFrom(outside("w"))
    model.functions[0].node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(W))


@pytest.mark.parametrize(
    "put",
    [
        in_attribute,
        in_list,
        in_subgraph,
        in_function,
        in_sparse_tensor,
        in_training,
        in_default,
    ],
)
def test_a_file_is_refused_wherever_in_the_model_it_is_named(put, dense):
    model = dense()
    put(model)
    with pytest.raises(ModelFileError, match="external data"):
        check(model)


def test_a_location_counts_though_the_tensor_says_it_is_inside(dense):
    model = dense()
    model.graph.initializer[0].external_data.add(key="location", value="w")
    with pytest.raises(ModelFileError, match="'w' of net"):
        check(model)


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_of_onnx_and_onnx_runtime_are_taken(domain, dense):
    assert check(dense([helper.make_node("Gelu", ["y"], ["z"], domain=domain)])) == 2


@pytest.mark.parametrize(
    ("domain", "operator"),
    [
        ("evil.corp", "Steal"),
        ("com.microsoft.experimental", "Steal"),
        ("org.pytorch.aten", "ATen"),
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "PythonOp"),
    ],
)
def test_other_operators_are_refused(domain, operator, dense):
    model = dense([helper.make_node(operator, ["y"], ["z"], domain=domain)])
    with pytest.raises(UnsupportedModelError, match=f"net has the operator {domain}::"):
        check(model)


def test_an_operator_is_refused_within_a_subgraph(dense):
    graph = helper.make_graph([node("Steal", "y", "z", domain="evil")], "then", [], [])
    model = dense([helper.make_node("If", ["c"], ["z"], then_branch=graph)])
    with pytest.raises(UnsupportedModelError, match="evil::Steal"):
        check(model)


def functions(depth, times=2):
    """Return functions f0 .. that each call the next one more than once."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = []
    for at in range(depth):
        if at == depth - 1:
            nodes = [node("Identity", "a", "b")]
        else:
            call = f"f{at + 1}"
            middle = ["a", *(f"m{i}" for i in range(times - 1)), "b"]
            nodes = [node(call, middle[i], middle[i + 1], domain="own") for i in range(times)]
        made.append(helper.make_function("own", f"f{at}", ["a"], ["b"], nodes, opsets))
    return made


def test_the_models_own_functions_are_taken_whatever_their_domain(dense):
    model = dense([node("f0", "y", "z", domain="own")], functions=functions(2))
    assert check(model) == 1 + 1 + 2 + 2  # a call is a node as well


def test_functions_that_double_are_counted_without_being_expanded(dense):
    model = dense([node("f0", "y", "z", domain="own")], functions=functions(60))
    with pytest.raises(UnsupportedModelError, match="more than 100000 nodes"):
        check(model)


def test_functions_that_call_themselves_are_refused(dense):
    made = functions(3)
    made[2].node[0].op_type, made[2].node[0].domain = "f0", "own"
    model = dense([node("f0", "y", "z", domain="own")], functions=made)
    with pytest.raises(ModelFileError, match="call themselves"):
        check(model)


def test_too_many_nodes_are_refused(dense):
    nodes = [node("Identity", "y", f"z{i}") for i in range(20)]
    assert check(dense(nodes), nodes=21) == 21
    with pytest.raises(UnsupportedModelError, match="more than 20 nodes"):
        check(dense(nodes), nodes=20)


def test_too_many_tensors_are_refused(dense):
    model = dense()
    model.graph.initializer.extend(model.graph.initializer[0] for _ in range(5))
    with pytest.raises(UnsupportedModelError, match="6 tensors; this server takes at most 5"):
        check(model, tensors=5)


def test_too_many_bytes_are_refused_unread(dense):
    with pytest.raises(UnsupportedModelError, match="expected at most 10"):
        check_stranger(b"x" * 11, "net", ModelRules(size=10))


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file_is_refused(part, dense):
    content = dense().SerializeToString()
    with pytest.raises(ModelFileError, match="net is no ONNX model"):
        check_stranger(content[: int(part * len(content))], "net", ModelRules())
