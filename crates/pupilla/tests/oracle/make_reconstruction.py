"""Writes reconstruction.json: what scikit-image and PyTorch say where the networks trained by reconstruction are concerned.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy scikit-image torch
    "$VENV"/bin/python make_reconstruction.py        # writes reconstruction.json beside this file

Inputs are floats of 32 bits, flat and row-major, with their shape beside them; everything is computed in f64.

  similarity           structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
                       full=True), an image at a time: the map, a mean over the channels
  similarity_gradient  the same formula in torch, its mean, and the gradient of the first image
  variational          torch: a code by reparametrisation, the Kullback-Leibler divergence from the standard normal (a sum over the
                       code, a mean over the batch), and the gradients of (code * weight).sum() + divergence
  adversarial          torch.nn.functional.binary_cross_entropy_with_logits for targets of ones and of zeros, and gradients
  steps                a small network of a strided and a transposed convolution, its weights after five steps of Adam on the squared
                       error: convolution 4x4 stride 2 padding 1, leaky ReLU 0.2, transposed the same way back, linear
  variational_steps    an encoder of one convolution 8x8 to mean and log variance of 2 numbers, a decoder of one transposed convolution
                       back; losses (squared error, divergence) before each of three steps of Adam on their sum, the divergence
                       weighted by 40 / (3 * 8 * 8), and the weights after them
  adversarial_steps    a discriminator and a generator of three layers, batch norm on the inner ones; losses (generator's,
                       discriminator's) before each of three steps of Adam (beta 0.5, 0.999): the discriminator on real and on made
                       images, then the generator against it as it is now; and the weights after them
  search               the same two without batch norm: the image of the code that came nearest in 20 steps of Adam, by the sums of
                       absolute differences of pixels (0.7) and of what the discriminator's last layer is given (0.3)
  transposed           shapes of nn.ConvTranspose2d's outputs for each layer of the published decoder (input of 8x8 from a code)
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

rng = np.random.default_rng(20261125)


def flat(array):
    return [float(x) for x in np.asarray(array).ravel()]


def single(array):
    """Values that are floats of 32 bits, so that an f32 implementation starts from the same."""
    return np.asarray(array, np.float32).astype(np.float64)


def images(shape):
    rows, columns = np.mgrid[0 : shape[2], 0 : shape[3]]
    phases = rng.uniform(0, 6, size=shape[:2])
    waves = np.sin(0.6 * rows + 0.3 * columns + phases[:, :, None, None])
    return single(np.clip(0.5 + 0.3 * waves + 0.1 * rng.normal(size=shape), 0, 1))


def similarity(shape, flat_patch):
    one = images(shape)
    other = single(np.clip(one + 0.15 * rng.normal(size=shape), 0, 1))
    if flat_patch:
        # No variance in either: the stabilisers alone decide.
        one[:, :, 3:15, 2:14] = 0.25
        other[:, :, 3:15, 2:14] = 0.5
    maps = [
        structural_similarity(
            a,
            b,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            full=True,
        )[1].mean(axis=0)
        for a, b in zip(one, other)
    ]
    return {"shape": list(shape), "one": flat(one), "other": flat(other), "map": flat(maps)}


def window(x):
    """scipy's gaussian_filter with a deviation of 1.5 cut off at 5 pixels, edges mirrored with their pixels repeated."""
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    taps = taps / taps.sum()
    index = lambda size: torch.tensor(np.pad(np.arange(size), 5, mode="symmetric"))
    x = x[:, :, index(x.shape[2])][:, :, :, index(x.shape[3])]
    planes = x.reshape(-1, 1, *x.shape[2:])
    planes = F.conv2d(F.conv2d(planes, taps.reshape(1, 1, 11, 1)), taps.reshape(1, 1, 1, 11))
    return planes.reshape(*x.shape[:2], *planes.shape[2:])


def similarity_gradient(shape):
    one, other = images(shape), images(shape)
    x = torch.tensor(one, requires_grad=True)
    y = torch.tensor(other)
    mx, my = window(x), window(y)
    vx, vy, cov = window(x * x) - mx * mx, window(y * y) - my * my, window(x * y) - mx * my
    ssim = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))
    loss = ssim.mean()
    loss.backward()
    return {
        "shape": list(shape),
        "one": flat(one),
        "other": flat(other),
        "loss": float(loss),
        "gradient": flat(x.grad),
    }


def variational(shape):
    mean, log_variance, noise, weight = (single(rng.normal(size=shape)) for _ in range(4))
    m = torch.tensor(mean, requires_grad=True)
    v = torch.tensor(log_variance, requires_grad=True)
    normal = torch.distributions.Normal(m, torch.exp(0.5 * v))
    code = m + torch.exp(0.5 * v) * torch.tensor(noise)
    standard = torch.distributions.Normal(torch.zeros_like(m), torch.ones_like(m))
    divergence = torch.distributions.kl_divergence(normal, standard).sum() / shape[0]
    ((code * torch.tensor(weight)).sum() + divergence).backward()
    return {
        "shape": list(shape),
        "mean": flat(mean),
        "log_variance": flat(log_variance),
        "noise": flat(noise),
        "weight": flat(weight),
        "code": flat(code.detach()),
        "divergence": float(divergence),
        "of_mean": flat(m.grad),
        "of_log_variance": flat(v.grad),
    }


def adversarial():
    values = single([-120.0, -3.0, -0.1, 0.4, 2.5, 90.0])
    result = {"shape": [6, 1, 1, 1], "logits": flat(values)}
    for name, target in (("real", 1.0), ("fake", 0.0)):
        logits = torch.tensor(values, requires_grad=True)
        loss = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
        loss.backward()
        result[name] = float(loss)
        result[f"of_{name}"] = flat(logits.grad)
    return result


def steps():
    down = single(0.2 * rng.normal(size=(5, 3, 4, 4)))
    up = single(0.2 * rng.normal(size=(5, 3, 4, 4)))
    offsets = [single(0.1 * rng.normal(size=5)), single(0.1 * rng.normal(size=3))]
    batch = images((2, 3, 8, 8))
    parameters = [torch.tensor(x, requires_grad=True) for x in (down, offsets[0], up, offsets[1])]
    optimizer = torch.optim.Adam(parameters, lr=1e-2, eps=1e-8, weight_decay=1e-5)
    x, losses = torch.tensor(batch), []
    for _ in range(5):
        hidden = F.leaky_relu(F.conv2d(x, parameters[0], parameters[1], stride=2, padding=1), 0.2)
        output = F.conv_transpose2d(hidden, parameters[2], parameters[3], stride=2, padding=1)
        loss = F.mse_loss(output, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return {
        "batch": flat(batch),
        "down": flat(down),
        "up": flat(up),
        "down_bias": flat(offsets[0]),
        "up_bias": flat(offsets[1]),
        "losses": losses,
        "after": [flat(parameter.detach()) for parameter in parameters],
    }


def transposed():
    layers = [
        (100, 32, 8, 1, 0),
        (32, 64, 3, 1, 1),
        (64, 128, 3, 1, 1),
        (128, 64, 4, 2, 1),
        (64, 64, 3, 1, 1),
        (64, 32, 4, 2, 1),
        (32, 32, 3, 1, 1),
        (32, 32, 4, 2, 1),
        (32, 3, 4, 2, 1),
    ]
    x, shapes = torch.zeros(1, 100, 1, 1), []
    for from_, to, kernel, stride, padding in layers:
        x = torch.nn.ConvTranspose2d(from_, to, kernel, stride, padding)(x)
        shapes.append(list(x.shape))
    return shapes


def layer(from_, to, kernel, transposed=False, scale=False):
    shape = (from_, to) if transposed else (to, from_)
    arrays = [0.3 * rng.normal(size=(*shape, kernel, kernel)), 0.1 * rng.normal(size=to)]
    if scale:
        arrays.append(1 + 0.2 * rng.normal(size=to))
    return [torch.tensor(single(array), requires_grad=True) for array in arrays]


def chain(x, layers, plan):
    """plan: for each layer whether it is transposed, its stride, its padding and the slope behind it."""
    for arrays, (transposed, stride, padding, slope) in zip(layers, plan):
        convolve = F.conv_transpose2d if transposed else F.conv2d
        if len(arrays) == 3:
            x = convolve(x, arrays[0], None, stride, padding)
            x = F.batch_norm(x, None, None, arrays[2], arrays[1], training=True, eps=1e-5)
        else:
            x = convolve(x, arrays[0], arrays[1], stride, padding)
        x = F.leaky_relu(x, slope) if slope != 1 else x
    return x


def numbers(networks):
    return [[flat(a.detach()) for arrays in layers for a in arrays] for layers in networks]


def all_of(layers):
    return [array for arrays in layers for array in arrays]


def variational_steps():
    networks = [[layer(3, 4, 8)], [layer(2, 3, 8, transposed=True)]]
    with torch.no_grad():
        networks[0][0][0].mul_(0.125)
    before, batch = numbers(networks), images((2, 3, 8, 8))
    x, losses, noises = torch.tensor(batch), [], []
    optimizers = [torch.optim.Adam(all_of(n), lr=1e-3, eps=1e-8, weight_decay=1e-5) for n in networks]
    for _ in range(3):
        noise = single(rng.normal(size=(2, 2, 1, 1)))
        said = chain(x, networks[0], [(False, 1, 0, 1)])
        mean, deviation = said[:, :2], torch.exp(0.5 * said[:, 2:])
        made = chain(mean + deviation * torch.tensor(noise), networks[1], [(True, 1, 0, 1)])
        error = F.mse_loss(made, x)
        standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        code = torch.distributions.Normal(mean, deviation)
        divergence = torch.distributions.kl_divergence(code, standard).sum() / 2
        for optimizer in optimizers:
            optimizer.zero_grad()
        (error + 40 / (3 * 8 * 8) * divergence).backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append([float(error), float(divergence)])
        noises.append(flat(noise))
    return {"arrays": before, "images": flat(batch), "noise": noises, "losses": losses, "after": numbers(networks)}


PLANS = [
    [(False, 2, 1, 0.2), (False, 2, 1, 0.2), (False, 1, 0, 1)],
    [(True, 1, 0, 0.0), (True, 2, 1, 0.0), (True, 2, 1, 1)],
]


def adversaries(scale):
    return [
        [layer(3, 4, 4), layer(4, 6, 4, scale=scale), layer(6, 1, 4)],
        [
            layer(3, 6, 4, transposed=True, scale=scale),
            layer(6, 4, 4, transposed=True, scale=scale),
            layer(4, 3, 4, transposed=True),
        ],
    ]


def adversarial_steps():
    networks = adversaries(True)
    before, batch = numbers(networks), images((2, 3, 16, 16))
    x, losses, codes = torch.tensor(batch), [], []
    optimizers = [torch.optim.Adam(all_of(n), lr=1e-2, betas=(0.5, 0.999), eps=1e-8) for n in networks]
    says = lambda image: chain(image, networks[0], PLANS[0])
    entropy = F.binary_cross_entropy_with_logits
    for _ in range(3):
        code = single(rng.normal(size=(2, 3, 1, 1)))
        made = torch.sigmoid(chain(torch.tensor(code), networks[1], PLANS[1]))
        real, fake = says(x), says(made.detach())
        of_discriminator = entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))
        optimizers[0].zero_grad()
        of_discriminator.backward()
        optimizers[0].step()
        fooled = says(made)
        of_generator = entropy(fooled, torch.ones_like(fooled))
        optimizers[1].zero_grad()
        of_generator.backward()
        optimizers[1].step()
        losses.append([float(of_generator), float(of_discriminator)])
        codes.append(flat(code))
    return {"arrays": before, "images": flat(batch), "noise": codes, "losses": losses, "after": numbers(networks)}


def search():
    networks = adversaries(False)
    image = torch.tensor(images((1, 3, 16, 16)))
    first = single(rng.normal(size=(1, 3, 1, 1)))
    code = torch.tensor(first, requires_grad=True)
    optimizer = torch.optim.Adam([code], lr=0.05, eps=1e-8)
    features = lambda x: chain(x, networks[0][:2], PLANS[0][:2])
    best = None
    for step in range(21):
        made = torch.sigmoid(chain(code, networks[1], PLANS[1]))
        apart = (made - image).abs().sum()
        different = (features(made) - features(image)).abs().sum()
        loss = 0.7 * apart + 0.3 * different
        if best is None or float(loss) < best[0]:
            best = (float(loss), flat(made.detach()))
        optimizer.zero_grad()
        loss.backward()
        if step < 20:
            optimizer.step()
    return {"arrays": numbers(networks), "image": flat(image), "code": flat(first), "made": best[1]}


result = {
    "similarity": [similarity((1, 3, 16, 21), False), similarity((2, 1, 17, 16), True)],
    "similarity_gradient": similarity_gradient((1, 2, 13, 16)),
    "variational": variational((3, 4, 1, 1)),
    "adversarial": adversarial(),
    "steps": steps(),
    "transposed": transposed(),
    "variational_steps": variational_steps(),
    "adversarial_steps": adversarial_steps(),
    "search": search(),
}
path = pathlib.Path(__file__).with_name("reconstruction.json")
path.write_text(json.dumps(result) + "\n")
