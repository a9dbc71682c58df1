#!/usr/bin/env python3
"""Compares training steps and dense inspection on a GPU with PyTorch's (cuDNN) on the same card, in turn, in one run.

    python3 -m venv VENV && VENV/bin/pip install torch
    VENV/bin/python benches/peers/gpu.py [--device gpu] [--torch-device cuda] [--peak-tflops 30.3] [--rounds 7] [--json FILE]

Builds what it runs (the examples `training_step` and `inspection` of `pupilla`, in release mode with the feature `gpu`); with `--built`, on a machine
without Rust, it runs what was built elsewhere and lies in `target/release/examples` (or `CARGO_TARGET_DIR`'s). A step is one student's
forward pass, backward pass and Adam: on the grid (four windows), and dense as published (the window of every pixel of an image of
`--side`). Inspection is a teacher and three students, dense: ours from image to anomaly map, PyTorch's networks alone. Ours computes in `f32`;
PyTorch is timed in `f32` and, where the card has it, with TF32 in its convolutions, each in the faster of contiguous and channels-last
memory, with `cudnn.benchmark`. Times are from call to result. Prints a table to standard error and one JSON object to standard output; its `ratios` are
PyTorch's median time over ours. With `--peak-tflops`, the card's peak in `f32`, it prints the share of it that either reaches, by the multiplications and additions that
the networks are defined by.
"""

# A script beside this one has the name of a module of Python's own, which PyTorch imports.
import sys

HERE = sys.path.pop(0)

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402


def sibling(name):
    specification = importlib.util.spec_from_file_location(f"peers_{name}", Path(HERE) / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    if name == "inspect":
        # The first thing that it does is to take the script's folder off the path.
        sys.path.insert(0, HERE)
    specification.loader.exec_module(module)
    return module


peer = sibling("conv")
inspection = sibling("inspect")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
SPAN = {17: 17, 33: 32, 65: 60}
GRID = {17: (49, 4), 33: (129, 4), 65: (161, 4)}


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run, repetitions, device):
    run()
    synchronise(device)
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        synchronise(device)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def operations(network, x, dense):
    """Multiplications and additions of a forward pass; dense, every convolution is at every position of its fragments."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        taps = module.weight[0].numel()
        total += 2 * taps * output.numel()

    hooks = [layer.register_forward_hook(count) for layer in network if isinstance(layer, torch.nn.Conv2d)]
    with torch.inference_mode():
        (inspection.fragments if dense else torch.nn.Sequential.forward)(network, x)
    for hook in hooks:
        hook.remove()
    return total


def step(field, window, batch, dense, memory_format, device):
    network = peer.torch_network(field).to(device=device, memory_format=memory_format)
    x = torch.randn(batch, 3, window, window, device=device).to(memory_format=memory_format)
    forward = inspection.fragments if dense else torch.nn.Sequential.forward
    with torch.no_grad():
        target = torch.randn_like(forward(network, x))
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-5)

    def run():
        adam.zero_grad(set_to_none=True)
        loss = F.mse_loss(forward(network, x), target)
        loss.backward()
        adam.step()
        return loss.item()

    return run


def inspect(field, side, way, memory_format, device):
    networks = [
        peer.torch_network(field).eval().to(device=device, memory_format=memory_format)
        for _ in range(inspection.NETWORKS)
    ]
    window = side + SPAN[field] - 1
    x = torch.randn(1, 3, window, window, device=device).to(memory_format=memory_format)

    def run():
        with torch.inference_mode():
            for network in networks:
                way(network, x)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="gpu", help="ours: gpu, gpu:1, cpu")
    parser.add_argument("--torch-device", default="cuda", type=torch.device)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--threads", type=int, default=4, help="of the processor's part of ours")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fields", default="17,33,65", type=lambda text: [int(field) for field in text.split(",")])
    parser.add_argument("--side", type=int, default=256, help="of the dense images")
    parser.add_argument("--built", action="store_true", help="build nothing: the examples were built before")
    parser.add_argument("--json", type=Path, help="also write the result there")
    arguments = parser.parse_args()
    device = arguments.torch_device
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA card: --torch-device cpu compares with the processor")
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    precisions = {"f32": False, "tf32": True} if device.type == "cuda" else {"f32": False}
    results = {"ratios": {}, "ours_ms": {}, "torch_ms": {}, "share_of_peak": {}, "card": card, "torch": torch.__version__}

    features = [] if arguments.device == "cpu" else ["gpu"]
    ours = {
        name: peer.Ours("pupilla", name, arguments.threads, [arguments.device], features, arguments.built)
        for name in ("training_step", "inspection")
    }

    def compare(key, program, line, candidates, flops):
        mine, theirs = [], {}
        for _ in range(arguments.rounds):
            # The first finds its kernels and memory cold.
            mine += ours[program].times(f"{line} 3")[1:]
            for precision, tf32 in precisions.items():
                torch.backends.cudnn.allow_tf32 = tf32
                for name, run in candidates.items():
                    theirs.setdefault((precision, name), []).extend(timed(run, 2, device))
        ours_ms = statistics.median(mine)
        results["ours_ms"][key] = round(ours_ms, 3)
        for precision in precisions:
            times = {name: statistics.median(ms) for (of, name), ms in theirs.items() if of == precision}
            best = min(times, key=times.get)
            of_both = f"{key} {precision}"
            results["torch_ms"][of_both] = round(times[best], 3)
            results["ratios"][of_both] = round(times[best] / ours_ms, 3)
            shares = ""
            if arguments.peak_tflops:
                mine_and_theirs = [flops / ms / 1e9 / arguments.peak_tflops for ms in (ours_ms, times[best])]
                results["share_of_peak"][of_both] = [round(share, 3) for share in mine_and_theirs]
                shares = "{:>7.1%}{:>7.1%}".format(*mine_and_theirs)
            print(
                f"{of_both:<26}{ours_ms:>9.1f}{times[best]:>9.1f}  {best:<24}{times[best] / ours_ms:>6.2f}{shares}",
                file=sys.stderr,
            )

    print(f"{card}\n{'':<26}{'ours ms':>9}{'torch ms':>9}  {'':<24}{'ratio':>6}", file=sys.stderr)
    for field in arguments.fields:
        network = peer.torch_network(field)
        dense_window = arguments.side + SPAN[field] - 1
        for name, (window, batch), dense in [
            ("grid", GRID[field], False),
            # As many patches of the patch size p as pixels.
            ("dense", (arguments.side + field - 1, 1), True),
        ]:
            # A backward pass is twice its forward pass, less the first layer's input.
            side = dense_window if dense else window
            flops = 3 * operations(network, torch.zeros(batch, 3, side, side), dense)
            candidates = {
                memory: step(field, side, batch, dense, FORMATS[memory], device) for memory in FORMATS
            }
            compare(f"p{field} step {name}", "training_step", f"{field} {window} {batch} {name}", candidates, flops)
        flops = inspection.NETWORKS * operations(network, torch.zeros(1, 3, dense_window, dense_window), True)
        ways = {"fragments": inspection.fragments, "dilated": inspection.dilated}
        candidates = {
            f"{way}, {memory}": inspect(field, arguments.side, ways[way], FORMATS[memory], device)
            for way in ways
            for memory in FORMATS
        }
        compare(f"p{field} inspect dense", "inspection", f"{field} {arguments.side} dense", candidates, flops)
    for program in ours.values():
        program.close()
    text = json.dumps(results)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
