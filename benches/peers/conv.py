#!/usr/bin/env python3
"""Compares our convolution on the CPU with PyTorch's: same shapes, same threads, in turn, in one run.

    python3 -m venv VENV && VENV/bin/pip install torch
    VENV/bin/python benches/peers/conv.py [--threads 2] [--rounds 7] [--filter TEXT] [--json FILE]

Builds what it runs, when it is first needed (the examples `time_conv` of `pupilla-conv` and `training_step` of `pupilla`, in release mode). Prints a table
to standard error and one JSON object to standard output; its `ratios` are PyTorch's median time over ours. PyTorch may use
contiguous or channels-last memory, whichever is the faster of the two in that pass; neither side is made to ask the system for new pages. `training_step_beside_convolution` is the share
of our step that is not spent in its convolutions, `two_processes` the time of two processes side by side over that of one after the other.
"""

# A script beside this one has the name of a module of Python's own, which PyTorch imports.
import sys

if __name__ == "__main__":
    sys.path.pop(0)

import argparse  # noqa: E402
import ctypes  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402


def keep_freed_memory():
    """Asks glibc to keep freed blocks, as our programs do (`pupilla_conv::keep_freed_memory`): PyTorch then writes each output where
    the last one was, instead of to new pages from the system. Its `out=` variants of convolution allocate inside and copy."""
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 << 20)


# Before PyTorch allocates anything or starts a thread.
keep_freed_memory()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

# Key of a layer: [batch, in channels, height, width], out channels, kernel. What the layer sees of one 256×256 image with one offset of
# every pooling before it; p = 33's and p = 65's later layers, whose maps are then small, are given four images.
LAYERS = {
    "p17 first 6x6 3-128": ((1, 3, 256, 256), 128, 6),
    "p17 5x5 128-256": ((1, 128, 126, 126), 256, 5),
    "p17 5x5 256-256": ((1, 256, 122, 122), 256, 5),
    "p17 4x4 256-128": ((1, 256, 118, 118), 128, 4),
    "p33 first 5x5 3-128": ((1, 3, 256, 256), 128, 5),
    "p33 5x5 128-256": ((1, 128, 126, 126), 256, 5),
    "p33 2x2 256-256": ((4, 256, 61, 61), 256, 2),
    "p33 4x4 256-128": ((4, 256, 60, 60), 128, 4),
    "p65 first 5x5 3-128": ((1, 3, 256, 256), 128, 5),
    "p65 5x5 128-128 second": ((1, 128, 126, 126), 128, 5),
    "p65 5x5 128-128 third": ((4, 128, 61, 61), 128, 5),
    "p65 4x4 128-256": ((16, 128, 28, 28), 256, 4),
    "p65 1x1 256-128": ((16, 256, 25, 25), 128, 1),
}
# Depthwise layers of EfficientNet-Lite0 on a 256×256 image: [batch, channels, height, width], kernel, stride.
DEPTHWISE = {
    "lite0 stage1 3x3": ((1, 32, 128, 128), 3, 1),
    "lite0 stage2 3x3 stride 2": ((1, 96, 128, 128), 3, 2),
    "lite0 stage2 3x3": ((1, 144, 64, 64), 3, 1),
    "lite0 stage3 5x5 stride 2": ((1, 144, 64, 64), 5, 2),
    "lite0 stage3 5x5": ((1, 240, 32, 32), 5, 1),
    "lite0 stage4 3x3 stride 2": ((1, 240, 32, 32), 3, 2),
    "lite0 stage4 3x3": ((1, 480, 16, 16), 3, 1),
    "lite0 stage5 5x5": ((1, 672, 16, 16), 5, 1),
    "lite0 stage6 5x5 stride 2": ((1, 672, 16, 16), 5, 2),
    "lite0 stage6 5x5": ((1, 1152, 8, 8), 5, 1),
}
PASSES = ("forward", "input_gradient", "weight_gradient")

# Key of a training step on the grid: receptive field, window, batch.
STEPS = {
    "training_step": (33, 129, 4),
    "training_step p65": (65, 161, 4),
    "training_step p17": (17, 49, 4),
}
SLOPE = 5e-3

# What `training_step` convolves: pass, [batch, in channels, height, width], out channels, kernel. Convolutions before a pooling do it
# themselves.
STEP_PASSES = [
    (name, shape, out_channels, kernel)
    for shape, out_channels, kernel, forward in [
        ((4, 3, 129, 129), 128, 5, "forward_max_pool"),
        ((4, 128, 62, 62), 256, 5, "forward_max_pool"),
        ((4, 256, 29, 29), 256, 2, "forward"),
        ((4, 256, 28, 28), 128, 4, "forward"),
    ]
    for name in (forward, "input_gradient", "weight_gradient")
    # The image needs no gradient.
    if not (name == "input_gradient" and shape[1] == 3)
]


class Ours:
    """One of our example programs, which answers a line with a line of times in milliseconds. Built (unless it is) and started when first asked."""

    def __init__(self, package, example, threads, arguments=(), features=(), built=False):
        self.package, self.example, self.threads = package, example, threads
        self.arguments, self.features, self.built = arguments, features, built
        self.process = None

    def start(self):
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        arguments = ["-"] if self.package == "pupilla-conv" else self.arguments
        # Not a pipe, which a program could fill while nobody reads it.
        errors = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(
            [target / "release" / "examples" / self.example, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "RAYON_NUM_THREADS": str(self.threads)},
        )
        process.errors = errors
        return process

    def build(self):
        if self.built:
            return
        command = ["cargo", "build", "--release", "--workspace", "--example", self.example]
        command += [word for feature in self.features for word in ("--features", feature)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)

    def checked(self, process, line, answer):
        """The times of an answer; ends this script if it is anything else."""
        try:
            times = [float(word) for word in answer.split()]
        except ValueError:
            times = []
        if len(times) == int(line.split()[-1]) and all(math.isfinite(ms) and ms > 0 for ms in times):
            return times
        # It has answered wrongly or is about to end by itself; either way nothing more is expected of it.
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = "none, it went on"
        process.errors.seek(0)
        sys.exit(
            f"{self.example}, asked {line!r}, answered {answer!r}; exit status {status}\n{process.errors.read()}"
        )

    def times(self, line):
        if self.process is None:
            self.build()
            self.process = self.start()
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended, which its missing answer shows.
        return self.checked(self.process, line, self.process.stdout.readline())

    def wall(self, line, processes):
        """Seconds until so many processes, started together, have answered a line."""
        start = time.perf_counter()
        running = [self.start() for _ in range(processes)]
        for process in running:
            try:
                process.stdin.write(line + "\n")
                process.stdin.close()
            except BrokenPipeError:
                pass  # As above.
        answers = [process.stdout.read() for process in running]
        for process in running:
            process.wait()
        wall = time.perf_counter() - start
        for process, answer in zip(running, answers):
            self.checked(process, line, answer)
        return wall

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def timed(run, repetitions):
    run()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def torch_pass(name, shape, out_channels, kernel, memory_format):
    """A function that runs one pass of one convolution."""
    x = torch.randn(shape).to(memory_format=memory_format)
    w = (torch.randn(out_channels, shape[1], kernel, kernel) * 0.05).to(memory_format=memory_format)
    bias = torch.randn(out_channels)
    if name == "forward":
        def run():
            with torch.inference_mode():
                F.conv2d(x, w, bias)
        return run
    gradient = torch.randn_like(F.conv2d(x, w, bias)).contiguous(memory_format=memory_format)
    mask = [name == "input_gradient", name == "weight_gradient", False]

    def run():
        with torch.inference_mode():
            torch.ops.aten.convolution_backward(
                gradient, x, w, [out_channels], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask
            )

    return run


def torch_depthwise(shape, kernel, stride, memory_format):
    """A function that runs one depthwise convolution."""
    x = torch.randn(shape).to(memory_format=memory_format)
    w = torch.randn(shape[1], 1, kernel, kernel).to(memory_format=memory_format)
    bias = torch.randn(shape[1])

    def run():
        with torch.inference_mode():
            F.conv2d(x, w, bias, stride, kernel // 2, groups=shape[1])

    return run


def torch_network(field):
    def conv(inputs, outputs, kernel, last=False):
        layers = [torch.nn.Conv2d(inputs, outputs, kernel)]
        return layers if last else [*layers, torch.nn.LeakyReLU(SLOPE, inplace=True)]

    pool = [torch.nn.MaxPool2d(2)]
    layers = {
        17: [*conv(3, 128, 6), *conv(128, 256, 5), *conv(256, 256, 5), *conv(256, 128, 4, True)],
        33: [*conv(3, 128, 5), *pool, *conv(128, 256, 5), *pool, *conv(256, 256, 2), *conv(256, 128, 4, True)],
        65: [*conv(3, 128, 5), *pool, *conv(128, 128, 5), *pool, *conv(128, 128, 5), *pool,
             *conv(128, 256, 4), *conv(256, 128, 1, True)],
    }
    return torch.nn.Sequential(*layers[field])


def torch_step(field, window, batch, memory_format):
    """A function that runs one training step: forward, backward, Adam."""
    network = torch_network(field).to(memory_format=memory_format)
    x = torch.randn(batch, 3, window, window).to(memory_format=memory_format)
    with torch.no_grad():
        target = torch.randn_like(network(x))
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-5)

    def run():
        adam.zero_grad(set_to_none=True)
        F.mse_loss(network(x), target).backward()
        adam.step()

    return run


def compare(key, line, ours, candidates, rounds, results):
    """Runs ours and each candidate in turn; keeps the fastest candidate's median."""
    repetitions = 2
    mine, theirs = [], {name: [] for name in candidates}
    for _ in range(rounds):
        mine += ours.times(f"{line} {repetitions}")
        for name, run in candidates.items():
            theirs[name] += timed(run, repetitions)
    ours_ms = statistics.median(mine)
    best = min(theirs, key=lambda name: statistics.median(theirs[name]))
    torch_ms = statistics.median(theirs[best])
    results["ratios"][key] = round(torch_ms / ours_ms, 3)
    results["ours_ms"][key] = round(ours_ms, 3)
    results["torch_ms"][key] = round(torch_ms, 3)
    print(f"{key:<44}{ours_ms:>9.2f}{torch_ms:>9.2f}  {best:<14}{torch_ms / ours_ms:>6.2f}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--filter", default="", help="only keys that contain this")
    parser.add_argument("--json", type=Path, help="also write the result there")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)

    results = {
        "ratios": {},
        "ours_ms": {},
        "torch_ms": {},
        "threads": arguments.threads,
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }
    formats = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
    print(f"{'':<44}{'ours ms':>9}{'torch ms':>9}  {'':<14}{'ratio':>6}", file=sys.stderr)

    conv = Ours("pupilla-conv", "time_conv", arguments.threads)
    for layer, (shape, out_channels, kernel) in LAYERS.items():
        for name in PASSES:
            key = f"{layer}/{name}"
            # Nobody needs the gradient of an image.
            if arguments.filter not in key or ("first" in layer and name == "input_gradient"):
                continue
            candidates = {
                label: torch_pass(name, shape, out_channels, kernel, memory_format)
                for label, memory_format in formats.items()
            }
            line = " ".join(map(str, [name, *shape, out_channels, kernel, 1]))
            compare(key, line, conv, candidates, arguments.rounds, results)
    for layer, (shape, kernel, stride) in DEPTHWISE.items():
        key = f"{layer}/depthwise"
        if arguments.filter not in key:
            continue
        candidates = {
            label: torch_depthwise(shape, kernel, stride, memory_format) for label, memory_format in formats.items()
        }
        line = " ".join(map(str, ["depthwise", *shape, shape[1], kernel, stride]))
        compare(key, line, conv, candidates, arguments.rounds, results)
    passes_ms = 0.0
    if arguments.filter in "training_step":
        for name, shape, out_channels, kernel in STEP_PASSES:
            line = " ".join(map(str, [name, *shape, out_channels, kernel, 1, 2 * arguments.rounds]))
            passes_ms += statistics.median(conv.times(line))
    conv.close()

    steps = Ours("pupilla", "training_step", arguments.threads)
    for key, (field, window, batch) in STEPS.items():
        if arguments.filter not in key:
            continue
        candidates = {
            label: torch_step(field, window, batch, memory_format) for label, memory_format in formats.items()
        }
        compare(key, f"{field} {window} {batch}", steps, candidates, arguments.rounds, results)
    if "training_step" in results["ours_ms"]:
        # What is left of a step when its convolutions, each timed by itself, are taken off.
        results["training_step_beside_convolution"] = round(1 - passes_ms / results["ours_ms"]["training_step"], 3)
        # Two at once, each with all the threads, against one after the other.
        alone = [steps.wall("33 129 4 12", 1) for _ in range(6)]
        together = [steps.wall("33 129 4 12", 2) for _ in range(3)]
        results["two_processes"] = round(statistics.median(together) / (2 * statistics.median(alone)), 3)
        for key in ("training_step_beside_convolution", "two_processes"):
            print(f"{key:<44}{results[key]:>9.3f}", file=sys.stderr)
    steps.close()

    if not results["ratios"]:
        sys.exit(f"no key contains {arguments.filter!r}")
    text = json.dumps(results)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
