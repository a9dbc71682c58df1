#!/usr/bin/env python3
"""A test set of defects drawn into good images that a model has not learned from: settings can be chosen on it, and the real test set stays unseen.

    python3 -m venv VENV && VENV/bin/pip install numpy pillow
    VENV/bin/python benches/drawn_defects.py MODEL DATA --photographs FOLDER --out DRAWN [--program target/release/pupilla]
    pupilla eval MODEL DRAWN

Takes the validation images that the model names, leaves half of them as they are, and draws one defect into each of the others, several
times over: a piece of a photograph, a piece of the image itself, a scratch, a blurred place, a stain, a place that is bent, turned about or
worn away. DRAWN is a data set in the MVTec AD layout.
Thresholds mean nothing on it (they come from the same images); AU-PRO and AUROC do.
"""

import argparse
import json
import pathlib
import subprocess

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = pathlib.Path(__file__).resolve().parent.parent


def blob(random, size, radius):
    """A soft-edged mask of a random shape, 0 to 1."""
    height, width = size
    # Where the part usually is.
    row, column = (random.uniform(0.15, 0.85) * side for side in size)
    angle, stretch = random.uniform(0, np.pi), random.uniform(0.5, 1)
    rows, columns = np.mgrid[:height, :width]
    along = (rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
    across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    turn = np.arctan2(across, along)
    rim = 1 + 0.2 * np.sin(3 * turn + random.uniform(0, 6)) + 0.1 * np.sin(7 * turn + random.uniform(0, 6))
    distance = np.hypot(along, across / stretch) / (radius * rim)
    return np.clip(3 * (1 - distance), 0, 1)


def piece(random, source, size):
    """A piece of an image as large as `size`, turned over."""
    height, width = size
    source = source.resize((max(width, source.width), max(height, source.height)))
    left, top = random.integers(source.width - width + 1), random.integers(source.height - height + 1)
    part = source.crop((left, top, left + width, top + height))
    return np.asarray(part.transpose(Image.Transpose.ROTATE_180), np.float64)


def photograph(random, image, photographs, radius):
    source = Image.open(photographs[random.integers(len(photographs))]).convert("RGB")
    return mix(image, piece(random, source, image.shape[:2]), blob(random, image.shape[:2], radius))


def displaced(random, image, photographs, radius):
    source = Image.fromarray(image.astype(np.uint8))
    return visible(image, *mix(image, piece(random, source, image.shape[:2]), blob(random, image.shape[:2], radius)))


def scratch(random, image, photographs, radius):
    height, width = image.shape[:2]
    canvas = Image.new("L", (width, height))
    at = np.array([random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height])
    angle, points = random.uniform(0, 2 * np.pi), [tuple(at)]
    for _ in range(6):
        angle += random.normal(0, 0.25)
        at = at + radius / 2 * np.array([np.cos(angle), np.sin(angle)])
        points.append(tuple(at))
    broad = width / 160 * random.choice([1, 1, 2, 4])
    ImageDraw.Draw(canvas).line(points, fill=255, width=max(1, round(broad)))
    mask = np.asarray(canvas.filter(ImageFilter.GaussianBlur(width / 500)), np.float64) / 255
    change = random.choice([-1, 1]) * random.uniform(30, 90)
    return mix(image, np.clip(image + change, 0, 255), np.clip(1.5 * mask, 0, 1))


def blurred(random, image, photographs, radius):
    source = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(image.shape[1] / 80))
    return mix(image, np.asarray(source, np.float64), blob(random, image.shape[:2], radius))


def stain(random, image, photographs, radius):
    colour = random.uniform(-60, 60, 3)
    return mix(image, np.clip(image + colour, 0, 255), blob(random, image.shape[:2], radius))


def bent(random, image, photographs, radius):
    """Pixels are pushed aside, most of all in the middle of the place."""
    height, width = image.shape[:2]
    push = blob(random, (height, width), radius)
    angle, length = random.uniform(0, 2 * np.pi), random.uniform(0.4, 0.9) * radius
    rows, columns = np.mgrid[:height, :width]
    rows = np.clip(rows - push * length * np.sin(angle), 0, height - 1).round().astype(int)
    columns = np.clip(columns - push * length * np.cos(angle), 0, width - 1).round().astype(int)
    return visible(image, image[rows, columns], push > 0.1)


def turned(random, image, photographs, radius):
    """The place itself, upside down."""
    mask = blob(random, image.shape[:2], radius)
    rows, columns = np.nonzero(mask > 0.3)
    if rows.size == 0:
        return image, mask > 0.3
    around = (rows.min() + rows.max(), columns.min() + columns.max())
    height, width = image.shape[:2]
    at = np.mgrid[:height, :width]
    other = image[np.clip(around[0] - at[0], 0, height - 1), np.clip(around[1] - at[1], 0, width - 1)]
    return visible(image, *mix(image, other, mask))


def worn(random, image, photographs, radius):
    """The place has lost its structure: its own colours, smoothed over its whole width."""
    source = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius / 2))
    grain = random.normal(0, 3, image.shape)
    return mix(image, np.clip(np.asarray(source, np.float64) + grain, 0, 255), blob(random, image.shape[:2], radius))


def visible(image, drawn, mask):
    """Where the image itself stands in for something else, a defect is where that makes a difference."""
    change = Image.fromarray(np.abs(drawn - image).mean(axis=2).astype(np.uint8))
    return drawn, mask & (np.asarray(change.filter(ImageFilter.BoxBlur(image.shape[1] / 100))) > 4)


def mix(image, other, mask):
    return image * (1 - mask[..., None]) + other * mask[..., None], mask > 0.3


KINDS = (photograph, displaced, scratch, blurred, stain, bent, turned, worn)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--photographs", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", default=3, type=int, help="defects of each kind drawn into each image")
    parser.add_argument("--radius", nargs=2, default=(0.02, 0.1), type=float, help="smallest and largest, relative to the image's side")
    parser.add_argument("--program", default=ROOT / "target/release/pupilla", type=pathlib.Path)
    options = parser.parse_args()
    options.program = options.program.resolve()
    about = json.loads(subprocess.run([options.program, "info", options.model, "--json"], check=True, capture_output=True).stdout)
    good = [options.data / "train/good" / name for name in about["data"]["validation"]]
    photographs = sorted(path for path in options.photographs.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for folder in ("train/good", "test/good"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(good):
        picture = Image.open(path).convert("RGB")
        if index % 2 == 0:
            picture.save(options.out / "test/good" / f"{index:03}.png")
            picture.save(options.out / "train/good" / f"{index:03}.png")
            continue
        image = np.asarray(picture, np.float64)
        for order, kind in enumerate(KINDS):
            for turn in range(options.rounds):
                random = np.random.default_rng([index, turn, order])
                # A defect that cannot be seen is drawn anew.
                for _ in range(20):
                    radius = random.uniform(*options.radius) * min(image.shape[:2])
                    drawn, mask = kind(random, image, photographs, radius)
                    if mask.any() and np.abs(drawn - image)[mask].mean() > 4:
                        break
                else:
                    continue
                for folder, suffix, numbers in (
                    ("test", "", drawn.round().astype(np.uint8)),
                    ("ground_truth", "_mask", mask.astype(np.uint8) * 255),
                ):
                    target = options.out / folder / kind.__name__
                    target.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(numbers).save(target / f"{index:03}_{turn}{suffix}.png")


if __name__ == "__main__":
    main()
