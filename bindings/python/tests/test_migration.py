"""`docs/how-to/come-from-anomalib.md`: our code on the page runs in the order of the page."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pupilla

image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "come-from-anomalib.md"
SIDE = 64


def blocks(info: str) -> list[str]:
    """The blocks of code with this info string, each after empty lines: so errors have the line numbers of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{info}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text.count("\n", 0, block.start(1)) + block[1] for block in found]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels).save(path)


def draw(folder: Path, count: int, seed: int, masks: Path | None = None) -> None:
    """Even grey parts with noise; with masks, each has a bright square."""
    for index in range(count):
        pixels = 128 + 12 * np.random.default_rng(seed + index).standard_normal((SIDE, SIDE))
        if masks:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[20:32, 30 - index : 42 - index] = 255
            pixels[mask > 0] += 90
            save(masks / f"{index:03}_mask.png", mask)
        save(folder / f"{index:03}.png", np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folders that the page speaks of."""
    bottle = tmp_path / "datasets/MVTecAD/bottle"
    draw(bottle / "train/good", 12, 0)
    draw(bottle / "test/good", 4, 100)
    draw(bottle / "test/broken", 4, 200, bottle / "ground_truth/broken")
    parts = tmp_path / "parts"
    draw(parts / "accepted", 15, 300)
    draw(parts / "scratched", 3, 400, parts / "ground_truth/scratched")
    draw(tmp_path / "more_good_images", 19, 500)
    draw(tmp_path / "new_images", 2, 600)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_our_python_runs(work, capsys):
    # What anomalib's code leaves behind.
    names = {"maps": {}}
    for test in pupilla.Dataset("datasets/MVTecAD/bottle").test:
        mask = image.open(test.masks[0]) if test.masks else np.zeros((SIDE, SIDE))
        names["maps"][str(test.path)] = np.asarray(mask, np.float32)
    for block in blocks("python pupilla"):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["evaluation"].image_auroc == 1
    assert names["evaluation"].au_pro > 0.5
    assert names["theirs"].au_pro == names["theirs"].pixel_auroc == 1
    assert names["parts_model"].inspect("parts/scratched/000.png").pred_label
    assert names["search"].best_score_ > 0.9
    assert pupilla.Model.load("bottle.pupilla").threshold == names["model"].threshold
    for written in ["report/index.html", "000_heatmap.png", "001_heatmap.png"]:
        assert Path(written).stat().st_size > 0
    assert "memory-bank" in capsys.readouterr().out


def test_our_commands_run(work):
    for line in "".join(blocks("sh pupilla")).split("\n"):
        if line:
            program, *words = shlex.split(line)
            assert program == "pupilla"
            done = subprocess.run([sys.executable, "-m", "pupilla", *words], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    assert Path("results.json").stat().st_size > 0
    assert sorted(path.name for path in Path("heatmaps").glob("*.png")) == ["000_heatmap.png", "001_heatmap.png"]


def test_each_block_is_ours_or_theirs():
    text = PAGE.read_text(encoding="utf-8")
    infos = re.findall(r"^```(.+)$", text, re.MULTILINE)
    assert set(infos) == {"python anomalib", "python pupilla", "sh", "sh pupilla"}
    assert len(blocks("python pupilla")) == infos.count("python pupilla") >= 6
    for block in blocks("python anomalib"):
        ast.parse(block)


def test_pages_that_are_linked_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
