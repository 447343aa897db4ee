"""How fast are we beside others: ONNX Runtime's limit, PyTorch, and two packages.

One command runs all of them in one process: same model, samples, plane, threads, in turns,
block by block, so that a machine whose speed drifts treats them alike. Prints ratios to bare
forward passes, and how far the losses of the others are from ours.

    python benchmarks/peers
    python benchmarks/peers --model resnet56_cifar10.onnx --samples 1000 --steps 6
    python benchmarks/peers --device cuda --samples 10000

Needs torch, and for the packages `loss-landscapes` and `Landscaper`; what is not installed is
left out and said to be.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]


def main() -> None:
    """Parse the options, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = BENCHMARKS.parent / "models" / "resnet20_cifar10.onnx"
    parser.add_argument("--model", type=Path, nargs="+", default=[model], help="one or more")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=6, help="points per direction")
    parser.add_argument("--block", type=int, default=6, help="points per turn")
    parser.add_argument("--threads", type=int, help="of the CPU; all cores if left out")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", help="comma-separated names of contestants, or beginnings")
    parser.add_argument(
        "--processes", type=int, default=2, help="runs of the whole command; 0 for none"
    )
    sys.path.insert(1, str(BENCHMARKS))  # of `common`
    from common.machine import add_out_option

    add_out_option(parser, "peers")
    options = parser.parse_args()

    # Read when it is imported: Landscaper's bar would be drawn over our lines.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from measure import measure

    for path in options.model:
        measure(path, options)


if __name__ == "__main__":
    main()
