"""Small parts, drawn in code, and a model of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pupilla

SIDE = 64


def part(seed: int, defect: bool = False) -> np.ndarray:
    """A disc in noise, ``[height, width, 3]``; with a defect, a dark stain."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:SIDE, :SIDE]
    disc = (column - 32) ** 2 + (row - 32) ** 2 < 400
    values = 110 + 60 * disc[..., None] * [1.0, 0.9, 0.7] + random.normal(0, 4, (SIDE, SIDE, 3))
    if defect:
        values[20:28, 24:34] -= 70
    return np.clip(values, 0, 255).astype(np.uint8)


def mask() -> np.ndarray:
    """Where the defect is."""
    marked = np.zeros((SIDE, SIDE), bool)
    marked[20:28, 24:34] = True
    return marked


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set as MVTec AD has them."""
    root = tmp_path_factory.mktemp("data") / "disc"
    for folder in ("train/good", "test/good", "test/stain", "ground_truth/stain"):
        (root / folder).mkdir(parents=True)
    for index in range(14):
        Image.fromarray(part(index)).save(root / "train" / "good" / f"{index:03}.png")
    for index in range(4):
        Image.fromarray(part(100 + index)).save(root / "test" / "good" / f"{100 + index:03}.png")
        Image.fromarray(part(200 + index, defect=True)).save(root / "test" / "stain" / f"{index:03}.png")
        Image.fromarray(mask()).save(root / "ground_truth" / "stain" / f"{index:03}_mask.png")
    return root


@pytest.fixture(scope="session")
def good(data: Path) -> Path:
    """The folder of the good images to learn from."""
    return data / "train" / "good"


@pytest.fixture(scope="session")
def stain(data: Path) -> Path:
    """An image with a defect."""
    return data / "test" / "stain" / "000.png"


@pytest.fixture(scope="session")
def model(good: Path) -> pupilla.Model:
    """A model of the parts. Tests must not change it."""
    return pupilla.train(good, resize=64, progress=False)


@pytest.fixture(scope="session")
def model_file(model: pupilla.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the model."""
    path = tmp_path_factory.mktemp("model") / "disc.pupilla"
    model.save(path)
    return path
