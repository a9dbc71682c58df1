"""Writes backbone.json: what PyTorch and torchvision make of weights given by a formula.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy torch torchvision
    "$VENV"/bin/python make_backbone.py                # writes the file beside this one
    "$VENV"/bin/python make_backbone.py WEIGHTS.pth    # of EfficientNet-Lite0: prints its cases with these weights

backbone.json: torchvision's resnet18 (with 10 classes and non-trivial batch-norm statistics), the
feature part of squeezenet1_1, and EfficientNet-Lite0 as it is written below, run in f64. The second form is for
examples/compare_backbone.rs. No weight is stored: `tensor` below computes each from its name
and shape, and tests/backbone.rs does the same. Of each output there are:

  shape      [batch, channels, rows, columns]
  rms        root mean square of all its numbers
  samples    every step-th number of the flat array, from the first on
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

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
    import torchvision

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
    import torchvision

    model = fill(torchvision.models.squeezenet1_1())
    names = {1: "conv1", 4: "fire3", 7: "fire5", 12: "fire9"}

    def run(x):
        for index, layer in enumerate(model.features):
            x = layer(x)
            if index in names:
                yield names[index], x
        yield "features", x.mean((2, 3), keepdim=True)

    return model, run


def same(x, kernel, stride):
    """Zeros around x as TensorFlow's SAME has them."""
    pads = []
    for side in (x.shape[3], x.shape[2]):
        zeros = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        pads += [zeros // 2, zeros - zeros // 2]
    return F.pad(x, pads)


class Block(nn.Module):
    """An inverted residual block: expand, depthwise, project."""

    def __init__(self, before, after, kernel, stride, expansion):
        super().__init__()
        inside = before * expansion
        self.kernel, self.stride, self.residual = kernel, stride, stride == 1 and before == after
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, inside, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inside, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(inside, inside, kernel, stride, groups=inside, bias=False)
        self._bn1 = nn.BatchNorm2d(inside, eps=1e-3)
        self._project_conv = nn.Conv2d(inside, after, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x):
        value = x
        if hasattr(self, "_expand_conv"):
            value = F.relu6(self._bn0(self._expand_conv(value)))
        value = F.relu6(self._bn1(self._depthwise_conv(same(value, self.kernel, self.stride))))
        value = self._bn2(self._project_conv(value))
        return value + x if self.residual else value


class EfficientNetLite0(nn.Module):
    # Blocks, kernel, stride, expansion, channels of each stage.
    STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]

    def __init__(self, classes):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks, self.ends, before = nn.ModuleList(), [], 32
        for blocks, kernel, stride, expansion, after in self.STAGES:
            for block in range(blocks):
                self._blocks.append(Block(before, after, kernel, stride if block == 0 else 1, expansion))
                before = after
            self.ends.append(len(self._blocks) - 1)
        self._conv_head = nn.Conv2d(before, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, classes)


def efficientnet_lite0(weights=None):
    if weights is None:
        model = fill(EfficientNetLite0(10))
    else:
        model = EfficientNetLite0(1000)
        model.load_state_dict(torch.load(weights, weights_only=True))
        model = model.double().eval()

    def run(x):
        x = F.relu6(model._bn0(model._conv_stem(same(x, 3, 2))))
        for index, block in enumerate(model._blocks):
            x = block(x)
            if index in model.ends:
                yield f"stage{model.ends.index(index) + 1}", x
        x = F.relu6(model._bn1(model._conv_head(x))).mean((2, 3), keepdim=True)
        yield "features", x
        yield "logits", model._fc(x.flatten(1))[:, :, None, None]

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


def cases(networks):
    for network, (model, run) in networks.items():
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


def write(networks, versions, file):
    file.write('{"made_by": "make_backbone.py", "versions": ' + json.dumps(versions) + ', "cases": [\n')
    file.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases(networks)))
    file.write("\n]}\n")


def main():
    versions = {"numpy": np.__version__, "torch": torch.__version__}
    if sys.argv[1:]:
        write({"efficientnet_lite0": efficientnet_lite0(sys.argv[1])}, versions, sys.stdout)
        return
    import torchvision

    versions["torchvision"] = torchvision.__version__
    networks = {"resnet18": resnet18(), "squeezenet1_1": squeezenet1_1(), "efficientnet_lite0": efficientnet_lite0()}
    with (HERE / "backbone.json").open("w") as file:
        write(networks, versions, file)


if __name__ == "__main__":
    main()
