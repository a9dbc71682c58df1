"""Writes backbone.json: what PyTorch and torchvision make of weights given by a formula.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy torch torchvision
    "$VENV"/bin/python make_backbone.py        # writes the file beside this one

backbone.json: torchvision's resnet18 (with 10 classes and non-trivial batch-norm statistics) and the
feature part of squeezenet1_1, run in f64. No weight is stored: `tensor` below computes each from its name
and shape, and tests/backbone.rs does the same. Of each output there are:

  shape      [batch, channels, rows, columns]
  rms        root mean square of all its numbers
  samples    every step-th number of the flat array, from the first on
"""

import json
import math
import pathlib

import numpy as np
import torch
import torchvision

HERE = pathlib.Path(__file__).parent


def unit(name, count):
    """Numbers in [0, 1): murmur3's finaliser over a counter that starts at the name's FNV-1a hash."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B9) + np.uint64(seed)) & mask
    x ^= x >> np.uint64(16)
    x = x * np.uint64(0x85EBCA6B) & mask
    x ^= x >> np.uint64(13)
    x = x * np.uint64(0xC2B2AE35) & mask
    x ^= x >> np.uint64(16)
    return (x >> np.uint64(8)).astype(np.float64) / 2**24


def tensor(name, shape):
    """The tensor of this name and shape, f32."""
    u = unit(name, math.prod(shape))
    if name == "input":
        values = 4.0 * u - 2.0
    elif name.endswith("running_mean"):
        values = (2.0 * u - 1.0) * 0.3
    elif name.endswith("running_var"):
        values = 0.5 + 1.5 * u
    elif name.endswith("bias"):
        values = (2.0 * u - 1.0) * 0.2
    elif len(shape) == 1:
        values = 0.5 + u
    else:
        values = (2.0 * u - 1.0) * math.sqrt(6.0 / math.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def fill(model):
    state = {
        name: torch.tensor(7) if name.endswith("num_batches_tracked") else tensor(name, tuple(value.shape))
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model.double().eval()


def resnet18():
    model = fill(torchvision.models.resnet18(num_classes=10))

    def run(x):
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        yield "stem", x
        for name in ["layer1", "layer2", "layer3", "layer4"]:
            x = getattr(model, name)(x)
            yield name, x
        x = model.avgpool(x)
        yield "features", x
        yield "logits", model.fc(x.flatten(1))[:, :, None, None]

    return model, run


def squeezenet1_1():
    model = fill(torchvision.models.squeezenet1_1())
    names = {1: "conv1", 4: "fire3", 7: "fire5", 12: "fire9"}

    def run(x):
        for index, layer in enumerate(model.features):
            x = layer(x)
            if index in names:
                yield names[index], x
        yield "features", x.mean((2, 3), keepdim=True)

    return model, run


def described(values, most):
    flat = values.numpy().ravel()
    step = max(1, len(flat) // most)
    # No step that walks along whole rows.
    step += step > 1 and step % 2 == 0
    return {
        "shape": list(values.shape),
        "rms": float(np.sqrt((flat**2).mean())),
        "step": step,
        "samples": [float(f"{x:.8g}") for x in flat[::step]],
    }


def cases():
    for network, (model, run) in {"resnet18": resnet18(), "squeezenet1_1": squeezenet1_1()}.items():
        for shape in [(2, 3, 64, 48), (1, 3, 75, 97)]:
            x = tensor("input", shape)
            with torch.no_grad():
                outputs = dict(run(x.double()))
                if network == "resnet18":
                    assert torch.equal(outputs["logits"][:, :, 0, 0], model(x.double()))
            yield {
                "network": network,
                "input": list(shape),
                "outputs": {
                    name: described(values, 1024 if name == "features" else 100)
                    for name, values in outputs.items()
                },
            }


def main():
    versions = {"numpy": np.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    with (HERE / "backbone.json").open("w") as file:
        file.write('{"made_by": "make_backbone.py", "versions": ' + json.dumps(versions) + ', "cases": [\n')
        file.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases()))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
