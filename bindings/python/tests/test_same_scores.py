"""Scores, thresholds and files are the program's, to the byte, however the images are given."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import part
from PIL import Image

import pupilla


def in_32_bits(value: Any) -> Any:
    """The value with scores as the program prints them: the shortest text of a 32-bit number."""
    if isinstance(value, dict):
        return {key: in_32_bits(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_32_bits(inner) for inner in value]
    return float(np.float32(value)) if isinstance(value, float) else value


def program(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pupilla", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended


class Tensor:
    """What another library's array looks like."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **wanted: Any) -> Any:
        return self.values.__dlpack__(**wanted)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


def forms(path: Path) -> dict[str, Any]:
    values = np.asarray(Image.open(path))
    return {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "open file": open(path, "rb"),
        "PIL": Image.open(path),
        "PIL with alpha": Image.open(path).convert("RGBA"),
        "uint8": values,
        "not in C order": np.asfortranarray(values),
        "uint16": values.astype(np.uint16) * 257,
        "big endian": (values.astype(np.uint16) * 257).astype(">u2"),
        "float32": values.astype(np.float32) / np.float32(255),
        "dlpack": Tensor(values),
        "memoryview of a file": memoryview(path.read_bytes()),
    }


def test_every_form_of_an_image_gives_the_same_map(model: pupilla.Model, stain: Path) -> None:
    wanted = model.inspect(stain)
    for form, image in forms(stain).items():
        result = model.inspect(image)
        assert np.array_equal(result.anomaly_map, wanted.anomaly_map), form
        assert result.pred_score == wanted.pred_score, form


def test_grey_images_are_alike_in_every_form(model: pupilla.Model, tmp_path: Path) -> None:
    grey = part(5)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    wanted = model.inspect(tmp_path / "grey.png").anomaly_map
    single = Image.fromarray(grey.astype(np.uint16) * 257)
    for image in (grey, grey[:, :, None], np.repeat(grey[:, :, None], 3, 2), Image.fromarray(grey), single):
        assert np.array_equal(model.inspect(image).anomaly_map, wanted)


def test_the_program_gives_the_same_scores(
    model: pupilla.Model, model_file: Path, data: Path, tmp_path: Path
) -> None:
    images = sorted((data / "test").rglob("*.png"))
    printed = program("inspect", model_file, *images, "--out", tmp_path / "out", "--json").stdout
    found = json.loads(printed)["images"]
    for image, entry in zip(images, found, strict=True):
        result = model.inspect(image)
        # Only files have pictures.
        wanted = {key: value for key, value in entry.items() if key not in ("heatmap", "map")}
        assert in_32_bits(result.to_dict()) == in_32_bits(wanted)
        result.save_map(tmp_path / "map.tiff")
        assert (tmp_path / "map.tiff").read_bytes() == Path(entry["map"]).read_bytes()
        with Image.open(entry["heatmap"]) as heatmap:
            assert np.array_equal(np.asarray(heatmap), result.heatmap())


@pytest.mark.parametrize(
    "settings",
    [
        {"detector": "memory-bank"},
        {"detector": "student-teacher", "scales": [33], "steps": 3, "students": 2, "batch_norm": False},
        {"detector": "l2-ae", "steps": 3, "seed": 4},
    ],
    ids=lambda settings: settings["detector"],
)
def test_training_writes_the_bytes_of_the_program(
    good: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    pupilla.train(good, resize=64, out=tmp_path / "own.pupilla", progress=False, **settings)
    words = [f"--{name.replace('_', '-')}={str(value).lower()}" for name, value in settings.items() if name != "scales"]
    words += ["--scales=33"] if "scales" in settings else []
    threads = f"--threads={pupilla.threads()}"
    program("train", good, "--resize=64", "--out", tmp_path / "program.pupilla", threads, *words)
    assert (tmp_path / "own.pupilla").read_bytes() == (tmp_path / "program.pupilla").read_bytes()


def test_arrays_and_files_train_the_same_model(model: pupilla.Model, good: Path, stain: Path) -> None:
    files = sorted(good.iterdir())
    arrays = [np.asarray(Image.open(path)) for path in files]
    kinds = (arrays, np.stack(arrays), [path.read_bytes() for path in files], iter(files))
    for images in kinds:
        of_images = pupilla.train(images, resize=64, progress=False)
        assert of_images.threshold == model.threshold
        assert of_images.pixel_threshold == model.pixel_threshold
        assert np.array_equal(of_images.inspect(stain).anomaly_map, model.inspect(stain).anomaly_map)


def test_a_model_goes_through_files_bytes_and_pickles(
    model: pupilla.Model, model_file: Path, stain: Path, tmp_path: Path
) -> None:
    score = model.inspect(stain).pred_score
    loaded = pupilla.Model.load(model_file)
    loaded.save(tmp_path / "again.pupilla")
    assert (tmp_path / "again.pupilla").read_bytes() == model_file.read_bytes()
    copies = [loaded, pupilla.Model.from_bytes(model.to_bytes()), pickle.loads(pickle.dumps(model))]
    for copy in copies:
        assert copy.inspect(stain).pred_score == score
        assert copy.manifest == model.manifest
    printed = program("info", tmp_path / "again.pupilla", "--json").stdout
    assert in_32_bits(json.loads(printed)) == in_32_bits(model.manifest)


def test_calibration_is_the_programs(model_file: Path, data: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    for index in range(9):
        Image.fromarray(part(300 + index)).save(others / f"{index}.png")
    model = pupilla.Model.load(model_file)
    before = model.threshold
    assert model.calibrate(others, false_reject=0.2, progress=False) is model
    assert model.threshold != before
    program("calibrate", model_file, others, "--false-reject=20%", "--out", tmp_path / "program.pupilla")
    model.save(tmp_path / "own.pupilla")
    assert (tmp_path / "own.pupilla").read_bytes() == (tmp_path / "program.pupilla").read_bytes()
    of_arrays = pupilla.Model.load(model_file)
    of_arrays.calibrate([part(300 + index) for index in range(9)], false_reject=0.2, progress=False)
    assert of_arrays.threshold == model.threshold


def test_measures_are_the_programs(model: pupilla.Model, model_file: Path, data: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    own = pupilla.evaluate(model, data, maps=maps, report=tmp_path / "report", progress=False)
    assert own.pages == [tmp_path / "report" / "index.html"] and own.pages[0].is_file()
    assert own.au_pro is not None and own.au_pro > 0.5 and own.image_auroc == 1.0
    theirs = json.loads(program("eval", model_file, data, "--json").stdout)
    timeless = {"seconds_per_image": None}
    assert in_32_bits({**own, **timeless}) == in_32_bits({**theirs, **timeless})

    # The maps alone, from files, in order, by path, and against masks.
    wanted = json.loads(program("score", data, "--maps", maps, "--json").stdout)
    dataset = pupilla.Dataset(data)
    in_order = [result.anomaly_map for result in model.inspect_many(test.path for test in dataset.test)]
    by_path = {str(test.path): values for test, values in zip(dataset.test, in_order, strict=True)}
    for given in (maps, in_order, dict(reversed(by_path.items()))):
        assert in_32_bits(pupilla.score(given, dataset, progress=False).to_dict()) == in_32_bits(wanted)
    masks = [np.asarray(Image.open(test.masks[0])) > 0 if test.masks else None for test in dataset.test]
    against_masks = pupilla.score(in_order, masks, progress=False)
    for measure in ("au_pro", "pixel_auroc", "pixel_ap", "image_auroc", "regions"):
        assert against_masks[measure] == wanted[measure], measure
    assert pupilla.check(data, progress=False) == json.loads(program("check", data, "--json").stdout)


def test_inspect_many_keeps_the_order_and_reads_ahead(model: pupilla.Model, data: Path) -> None:
    images = sorted((data / "test").rglob("*.png"))
    taken: list[Path] = []

    def given() -> Any:
        for image in images:
            taken.append(image)
            yield image

    results = model.inspect_many(given())
    first = next(results)
    assert 1 < len(taken) < len(images)
    found = [first, *results]
    assert [result.path for result in found] == [str(image) for image in images]
    assert [result.pred_score for result in found] == [model.inspect(image).pred_score for image in images]


def test_a_copy_computes_as_its_model(good: Path, stain: Path, tmp_path: Path) -> None:
    path = tmp_path / "students.pupilla"
    pupilla.train(good, detector="student-teacher", scales=33, steps=2, resize=64, progress=False, out=path)
    dense = pupilla.Model.load(path, dense=True)
    score = dense.inspect(stain).pred_score
    assert score != pupilla.Model.load(path).inspect(stain).pred_score
    for copied in (pickle.loads(pickle.dumps(dense)), copy.deepcopy(dense)):
        assert copied.inspect(stain).pred_score == score
    small = pickle.loads(pickle.dumps(pupilla.Model.load(path, memory=1000)))
    with pytest.raises(pupilla.InspectionError, match="memory"):
        small.inspect(stain)


def test_paths_in_a_list_are_read_when_they_are_needed(model: pupilla.Model, good: Path, tmp_path: Path) -> None:
    files = sorted(good.iterdir())
    for paths in (files, np.array([str(path) for path in files]), np.array(files, dtype=object)):
        assert pupilla.train(paths, resize=64, progress=False).threshold == model.threshold
    (tmp_path / "broken.png").write_bytes(b"no image")
    for images in ([*files, tmp_path / "broken.png"], [part(seed) for seed in range(14)] + [b"no image"]):
        with pytest.raises(pupilla.ImageError, match="is not a PNG"):
            pupilla.train(images, resize=64, progress=False)
        with pytest.warns(pupilla.PupillaWarning, match="skipped"):
            pupilla.train(images, resize=64, progress=False, skip_unreadable=True)


def test_a_folder_is_inspected_like_the_program_does(model: pupilla.Model, model_file: Path, data: Path) -> None:
    printed = program("inspect", model_file, data / "test", "--json").stdout
    wanted = [(entry["path"], entry["defective"]) for entry in json.loads(printed)["images"]]
    for folder in (data / "test", str(data / "test")):
        assert [(result.path, result.pred_label) for result in model.inspect_many(folder)] == wanted
    of_dataset = list(model.inspect_many(pupilla.Dataset(data)))
    assert sorted(result.path for result in of_dataset) == sorted(path for path, _ in wanted)


def test_the_console_script_is_the_program(model_file: Path, stain: Path) -> None:
    script = Path(sys.executable).with_name("pupilla")
    said = subprocess.run([script, "inspect", model_file, stain], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "DEFECTIVE" in said.stdout
    said = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert said.stdout == f"pupilla {pupilla.__version__}\n"
    wrong = subprocess.run([script, "inspect", "nothing.pupilla"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
