#!/usr/bin/env python3
"""Compares inspection with PyTorch's: a teacher and three students on one image, same threads, in turn, in one run.

    python3 -m venv VENV && VENV/bin/pip install torch
    VENV/bin/python benches/peers/inspect.py [--threads 2] [--rounds 5] [--fields 33] [--side 256] [--json FILE]

Builds what it runs (the example `inspection` of `pupilla`, in release mode). Ours is timed from image to anomaly map: dense, the published method,
and on the grid. PyTorch runs the same four networks densely and nothing else, in inference mode, its best way of four: contiguous or
channels-last memory, and either the poolings' offsets side by side in the batch or dilated convolutions behind poolings of stride 1. Prints
a table to standard error and one JSON object to standard output; its `ratios` are PyTorch's median dense time over ours
(`dense` and `grid` of the first field, and of each by name).
"""

# This file has the name of a module of Python's own, which PyTorch imports: its folder must not be searched.
import sys

HERE = sys.path.pop(0)

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
from pathlib import Path  # noqa: E402


def sibling(name):
    specification = importlib.util.spec_from_file_location(f"peers_{name}", Path(HERE) / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


peer = sibling("conv")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

NETWORKS = 4


def fragments(network, x):
    """Every pooling at all of its offsets, which go on side by side in the batch, and are woven together at the end."""
    depth = 0
    for layer in network:
        if not isinstance(layer, torch.nn.MaxPool2d):
            x = layer(x)
            continue
        depth += 1
        # An odd map has four fragments of one size.
        x = x[..., : (x.shape[-2] - 1) // 2 * 2 + 1, : (x.shape[-1] - 1) // 2 * 2 + 1]
        x = torch.cat([F.max_pool2d(x[..., i : x.shape[-2] - 1 + i, j : x.shape[-1] - 1 + j], 2) for i in (0, 1) for j in (0, 1)])
    for _ in range(depth):
        batch, channels, height, width = x.shape
        x = x.reshape(2, 2, batch // 4, channels, height, width).permute(2, 3, 4, 0, 5, 1)
        x = x.reshape(batch // 4, channels, 2 * height, 2 * width)
    return x


def dilated(network, x):
    """Poolings of stride 1; what is behind them looks at every second pixel, then at every fourth."""
    step = 1
    for layer in network:
        if isinstance(layer, torch.nn.MaxPool2d):
            x = F.max_pool2d(x, 2, stride=1, dilation=step)
            step *= 2
        elif isinstance(layer, torch.nn.Conv2d):
            x = F.conv2d(x, layer.weight, layer.bias, dilation=step)
        else:
            x = layer(x)
    return x


def check(field):
    """Both ways say what the network says of each patch by itself."""
    network = peer.torch_network(field).eval()
    span = {17: 17, 33: 32, 65: 60}[field]
    x = torch.randn(1, 3, span + 15, span + 15)
    with torch.inference_mode():
        patches = torch.cat([network(x[..., i : i + span, j : j + span]) for i in range(16) for j in range(16)])
        expected = patches.reshape(16, 16, -1).permute(2, 0, 1)
        for way in (fragments, dilated):
            torch.testing.assert_close(way(network, x)[0, :, :16, :16], expected, rtol=1e-3, atol=1e-5)


def torch_inspection(field, side, way, memory_format):
    networks = [peer.torch_network(field).eval().to(memory_format=memory_format) for _ in range(NETWORKS)]
    # The window whose dense descriptors are those of every pixel, in the size that fits the poolings.
    span = {17: 17, 33: 32, 65: 60}[field]
    x = torch.randn(1, 3, side + span - 1, side + span - 1).to(memory_format=memory_format)

    def run():
        with torch.inference_mode():
            for network in networks:
                way(network, x)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fields", default="33", type=lambda text: [int(field) for field in text.split(",")])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--json", type=Path, help="also write the result there")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)

    results = {
        "ratios": {},
        "ours_ms": {},
        "torch_ms": {},
        "threads": arguments.threads,
        "side": arguments.side,
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    ours = peer.Ours("pupilla", "inspection", arguments.threads)
    formats = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
    ways = {"fragments": fragments, "dilated": dilated}
    print(f"{'':<24}{'ours ms':>9}{'torch ms':>9}  {'':<24}{'ratio':>6}", file=sys.stderr)
    for field in arguments.fields:
        check(field)
        candidates = {
            f"{way}, {memory}": torch_inspection(field, arguments.side, ways[way], formats[memory])
            for way in ways
            for memory in formats
        }
        # The slow ways are tried once only.
        tried = {name: min(peer.timed(run, 1)) for name, run in candidates.items()}
        kept = [name for name, time in tried.items() if time < 1.5 * min(tried.values())]
        mine, theirs = {"dense": [], "grid": []}, {name: [] for name in kept}
        for _ in range(arguments.rounds):
            for name in kept:
                theirs[name] += peer.timed(candidates[name], 1)
            for sampling in mine:
                # The first finds the memory cold.
                mine[sampling] += ours.times(f"{field} {arguments.side} {sampling} 3")[1:]
        best = min(theirs, key=lambda name: statistics.median(theirs[name]))
        torch_ms = statistics.median(theirs[best])
        for sampling, times in mine.items():
            ours_ms = statistics.median(times)
            key = f"p{field} {sampling}"
            results["ratios"][key] = round(torch_ms / ours_ms, 3)
            if field == arguments.fields[0]:
                results["ratios"][sampling] = results["ratios"][key]
            results["ours_ms"][key] = round(ours_ms, 3)
            results["torch_ms"][key] = round(torch_ms, 3)
            print(f"{key:<24}{ours_ms:>9.1f}{torch_ms:>9.1f}  {best:<24}{torch_ms / ours_ms:>6.2f}", file=sys.stderr)
    ours.close()
    text = json.dumps(results)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
