"""Every operation of a graph, its gradients and a few steps of Adam, as PyTorch computes them: `python make_gradients.py > gradients.json`.

Made with PyTorch 2 on the CPU, in 64 bits, and stored with seven digits."""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)


def rounded(tensor):
    return [float(f"{x:.7g}") for x in tensor.detach().flatten().tolist()]


def tracked(*shape):
    # Numbers that 32 bits hold exactly, so that both sides begin alike.
    return (torch.rand(*shape).float().double() * 2 - 1).requires_grad_()


def leaky(x, slope):
    return x if slope == 1 else F.leaky_relu(x, slope)


def case(name, options, inputs, parameters, run):
    output = run(*inputs, *parameters)
    weights = torch.rand_like(output) * 2 - 1
    (output * weights).sum().backward()
    return {
        "operation": name,
        **options,
        "shape": list(inputs[0].shape),
        "input": rounded(inputs[0]),
        "parameters": [rounded(p) for p in parameters],
        "output": rounded(output),
        "output_shape": list(output.shape),
        "weights": rounded(weights),
        "of_input": rounded(inputs[0].grad),
        "of_parameters": [rounded(p.grad) for p in parameters],
    }


cases = []
for stride, padding, slope in [(1, 0, 1.0), (2, 1, 0.2), (1, 2, 0.0)]:
    options = {"channels": [3, 4], "kernel": 3, "stride": stride, "padding": padding, "slope": slope}
    cases.append(case("convolution", options, [tracked(2, 3, 6, 7)], [tracked(4, 3, 3, 3), tracked(4)],
                      lambda x, w, b: leaky(F.conv2d(x, w, b, stride, padding), slope)))
    cases.append(case("transposed_convolution", options, [tracked(2, 3, 4, 5)], [tracked(3, 4, 3, 3), tracked(4)],
                      lambda x, w, b: leaky(F.conv_transpose2d(x, w, b, stride, padding), slope)))
for size, stride, padding, partial in [(2, 2, 0, False), (3, 2, 1, False), (3, 2, 0, True)]:
    options = {"size": size, "stride": stride, "padding": padding, "partial": partial}
    cases.append(case("max_pool", options, [tracked(2, 2, 7, 8)], [],
                      lambda x: F.max_pool2d(x, size, stride, padding, ceil_mode=partial)))


def fragments(x):
    _, _, height, width = x.shape
    parts = [F.max_pool2d(x[:, :, top:height - 1 + top, left:width - 1 + left], 2) for top in (0, 1) for left in (0, 1)]
    return torch.stack(parts, 1).flatten(0, 1)


cases.append(case("max_pool_fragments", {}, [tracked(2, 2, 5, 7)], [], fragments))
cases.append(case("weave", {}, [tracked(8, 2, 2, 3)], [],
                  lambda x: x.reshape(2, 2, 2, 2, 2, 3).permute(0, 3, 4, 1, 5, 2).reshape(2, 2, 4, 6)))
for slope in (1.0, 0.2):
    options = {"channels": 3, "epsilon": 1e-3, "slope": slope}
    cases.append(case("batch_norm", options, [tracked(3, 3, 4, 5)], [tracked(3), tracked(3)],
                      lambda x, w, b: leaky(F.batch_norm(x, None, None, w, b, True, 0.1, 1e-3), slope)))
    # Without scale and offset, before a convolution: within the convolution's weights.
    cases.append(case("normalised_convolution", {**options, "kernel": 2, "channels": [3, 4]}, [tracked(3, 3, 4, 5)],
                      [tracked(4, 3, 2, 2), tracked(4)],
                      lambda x, w, b: leaky(F.conv2d(F.batch_norm(x, None, None, None, None, True, 0.1, 1e-3), w, b), slope)))
cases.append(case("convolution_max_pool", {"channels": [3, 4], "kernel": 3, "stride": 1, "padding": 0, "slope": 0.2},
                  [tracked(2, 3, 7, 8)], [tracked(4, 3, 3, 3), tracked(4)],
                  lambda x, w, b: F.max_pool2d(leaky(F.conv2d(x, w, b), 0.2), 2)))
cases.append(case("add_to_itself", {"slope": 0.0}, [tracked(2, 3, 2, 3)], [], lambda x: F.relu(x + torch.sigmoid(x))))
cases.append(case("concatenate_with_itself", {}, [tracked(2, 3, 2, 3)], [], lambda x: torch.cat([x, torch.sigmoid(x)], 1)))
cases.append(case("global_average", {}, [tracked(2, 3, 4, 5)], [], lambda x: x.mean((2, 3), keepdim=True)))
cases.append(case("sigmoid", {}, [tracked(2, 3, 4, 5)], [], torch.sigmoid))


def depthwise(x, w, b, stride):
    # TensorFlow's SAME: of an odd number of zeros, more at the bottom and at the right.
    kernel = w.shape[-1]
    zeros = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[3], x.shape[2])]
    padded = F.pad(x, [part for all in zeros for part in (all // 2, all - all // 2)])
    return F.relu6(F.conv2d(padded, w, b, stride, groups=x.shape[1]))


# Last, so that the numbers of the others stay what they are; the biases reach beyond 6.
generator_state = torch.get_rng_state()
torch.manual_seed(8)
for kernel, stride in [(3, 1), (5, 2)]:
    options = {"channels": 3, "kernel": kernel, "stride": stride}
    bias = (tracked(3) * 8).detach().requires_grad_()
    cases.append(case("depthwise", options, [tracked(2, 3, 6, 7)], [tracked(3, 1, kernel, kernel), bias],
                      lambda x, w, b: depthwise(x, w, b, stride)))
torch.set_rng_state(generator_state)


def adam(weight_decay, betas, rate, steps):
    parameter = tracked(6)
    start = rounded(parameter)
    optimizer = torch.optim.Adam([parameter], rate, betas, 1e-8, weight_decay)
    gradients = []
    for _ in range(steps):
        parameter.grad = torch.rand(6).float().double() * 2 - 1
        gradients.append(rounded(parameter.grad))
        optimizer.step()
    return {"weight_decay": weight_decay, "momenta": list(betas), "rate": rate, "start": start,
            "gradients": gradients, "after": rounded(parameter)}


def training():
    """Five steps of a small student: convolution, pooling, batch norm within the next convolution, squared error, Adam."""
    shapes = [(6, 3, 3, 3), (6,), (5, 6, 2, 2), (5,)]
    parameters = [tracked(*shape) for shape in shapes]
    start = [rounded(p) for p in parameters]
    inputs, target = tracked(2, 3, 8, 8).detach(), tracked(2, 5, 2, 2).detach()
    optimizer = torch.optim.Adam(parameters, 1e-2, weight_decay=1e-3)
    losses = []
    for _ in range(5):
        first, first_bias, second, second_bias = parameters
        hidden = F.max_pool2d(F.leaky_relu(F.conv2d(inputs, first, first_bias), 5e-3), 2)
        hidden = F.batch_norm(hidden, None, None, None, None, True, 0.1, 1e-3)
        loss = (F.conv2d(hidden, second, second_bias) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"input": rounded(inputs), "target": rounded(target), "start": start, "losses": losses,
            "after": [rounded(p) for p in parameters]}


print(json.dumps({
    "pytorch": torch.__version__,
    "cases": cases,
    "adam": [adam(0.0, (0.9, 0.999), 1e-3, 5), adam(1e-2, (0.5, 0.999), 1e-2, 5)],
    "training": training(),
}))
