"""Export the shared dense weights with scikit-learn and skl2onnx.

    python tests/exporters/make_sklearn.py

A classifier has two outputs, the label and the probabilities; `_logits` is the same file cut
before its softmax, as a user has to do; `_untyped` is what the cutting gives by default, an
output without a type.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
from fixture_files import save, training_digits, weights
from fixture_tasks import centers
from skl2onnx import to_onnx
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor

OPSET = {"": 17, "ai.onnx.ml": 3}


def mlp():
    """Return the dense network as a classifier of scikit-learn."""
    x, y = training_digits()
    classifier = MLPClassifier((16,), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step is no convergence, and need not be
        classifier.fit(x.reshape(-1, 64), y)
    w = weights("mlp")
    classifier.coefs_ = [w["fc1.weight"].T, w["fc2.weight"].T]
    classifier.intercepts_ = [w["fc1.bias"], w["fc2.bias"]]
    return classifier


def regression(network, columns):
    """Return a network that finds the center of mass as a regressor of scikit-learn."""
    x, _ = training_digits()
    regressor = MLPRegressor(hidden_layer_sizes=(12,), activation="tanh", max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regressor.fit(x.reshape(-1, 64), centers(x)[:, columns])
    w = weights(network)
    regressor.coefs_ = [w["fc1.weight"].T, w["fc2.weight"].T]
    regressor.intercepts_ = [w["fc1.bias"], w["fc2.bias"]]
    return regressor


def logistic():
    """Return a linear classifier: its weights become attributes of a node."""
    x, y = training_digits()
    return LogisticRegression(max_iter=100).fit(x.reshape(-1, 64), y)


def _exported(estimator, **options):
    example = np.zeros((1, 64), dtype=np.float32)
    return to_onnx(estimator, example, target_opset=OPSET, options=options or None)


if __name__ == "__main__":
    classifier = mlp()
    save(_exported(classifier), "mlp_skl2onnx_zipmap")
    plain = _exported(classifier, zipmap=False)
    save(plain, "mlp_skl2onnx_tensors")
    softmax = next(node for node in plain.graph.node if node.op_type == "Softmax")
    cut = select_model_inputs_outputs(plain, softmax.input[0])
    save(cut, "mlp_skl2onnx_untyped")
    save(onnx.shape_inference.infer_shapes(cut), "mlp_skl2onnx_logits")
    save(_exported(logistic(), zipmap=False), "logistic_skl2onnx_tensors")
    # The exporter gives two outputs the shape of one, so of twice as many samples.
    save(_exported(regression("regress", [0, 1])), "regress_skl2onnx_columns")
    save(_exported(regression("across", 0)), "across_skl2onnx_columns")
