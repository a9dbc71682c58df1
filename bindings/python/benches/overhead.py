"""What an inspection costs in Python beside the same in Rust: `python benches/overhead.py RUST_PROGRAM MODEL IMAGE`.

RUST_PROGRAM is `target/release/examples/time_inspection`. Rust and Python take turns. Python inspects an array.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
from PIL import Image

import pupilla

TURNS, COUNT = 7, 20


def in_python(model: pupilla.Model, image: np.ndarray) -> list[float]:
    seconds = []
    for _ in range(COUNT):
        start = time.perf_counter()
        model.inspect(image)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    program, file, path = sys.argv[1:]
    model, image = pupilla.Model.load(file), np.asarray(Image.open(path))
    ratios = []
    for _ in range(TURNS):
        said = subprocess.run([program, file, path, str(COUNT)], capture_output=True, text=True, check=True).stdout
        rust = statistics.median(float(line.split()[0]) for line in said.splitlines())
        python = statistics.median(in_python(model, image))
        ratios.append(python / rust)
        print(f"Rust {1000 * rust:.2f} ms, Python {1000 * python:.2f} ms, ratio {ratios[-1]:.3f}", flush=True)
    print(f"{image.shape}: median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
