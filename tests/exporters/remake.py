"""Make all fixtures anew with the exporters that this environment has.

    python tests/exporters/remake.py

Each framework usually has an environment of its own: run this in every one of them, torch's
first. A script whose frameworks are not there is skipped, and its fixtures stay.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from fixture_files import DATA, HERE, MODELS, WEIGHTS, make_data

TORCH = ("torch", "onnxscript")
KERAS = ("tensorflow", "keras", "tf2onnx")
JAX = ("jax", "flax", "jax2onnx")
SCRIPTS = {
    "make_torch.py": TORCH,
    "make_torch_sequences.py": TORCH,
    "make_torch_tasks.py": TORCH,
    "make_keras.py": KERAS,
    "make_keras_sequences.py": KERAS,
    "make_jax.py": JAX,
    "make_jax_sequences.py": JAX,
    "make_sklearn.py": ("sklearn", "skl2onnx"),
    "make_paddle_style.py": (),
    "make_handmade.py": (),
    "make_float16.py": ("onnxconverter_common",),
    "make_ort.py": ("onnxruntime",),
    "make_quantized.py": ("onnxruntime",),
}


def missing(packages):
    """Return those of some packages that cannot be imported."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


if __name__ == "__main__":
    MODELS.mkdir(exist_ok=True)
    WEIGHTS.mkdir(exist_ok=True)
    if not DATA.exists():
        make_data()
    for script, packages in SCRIPTS.items():
        absent = missing(packages)
        if absent:
            print(f"{script} skipped: no {', '.join(absent)}")
            continue
        subprocess.run([sys.executable, str(HERE / script)], check=True)
