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

SCRIPTS = {
    "make_torch.py": ("torch", "onnxscript"),
    "make_keras.py": ("tensorflow", "keras", "tf2onnx"),
    "make_jax.py": ("jax", "flax", "jax2onnx"),
    "make_sklearn.py": ("sklearn", "skl2onnx"),
    "make_paddle_style.py": (),
    "make_ort.py": ("onnxruntime",),
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
