"""What is wrong ends in an exception that says what to do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import part
from PIL import Image

import pupilla

GREY = np.zeros((64, 64), np.uint8)

IMAGES: dict[str, tuple[Any, str]] = {
    "no pixels": (np.zeros((0, 4), np.uint8), "at least one pixel"),
    "one axis": (np.zeros(9, np.uint8), r"shape \[9\]: give \[height, width\]"),
    "two channels": (np.zeros((64, 64, 2), np.uint8), r"\[64, 64, 2\]"),
    "four channels": (np.zeros((64, 64, 4), np.uint8), r"image\[:, :, :3\]"),
    "channels first": (np.zeros((3, 64, 64), np.float32), "moveaxis"),
    "a batch": (np.zeros((2, 64, 64, 3), np.uint8), r"\[2, 64, 64, 3\]"),
    "integers": (GREY.astype(np.int64), "int64: give uint8"),
    "booleans": (GREY > 0, "bool: give uint8"),
    "objects": (GREY.astype(object), "object: give uint8"),
    "NaN": (np.full((64, 64), np.nan), r"NaN, outside \[0, 1\]"),
    "above one": (np.full((64, 64), 200.0), r"200, outside \[0, 1\]"),
    "below zero": (np.full((64, 64), -0.5, np.float16), r"-0.5, outside \[0, 1\]"),
    "no image": (b"hello", "is not a PNG"),
    "no bytes": (b"", "empty"),
    "cut short": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "nothing": (None, "NoneType: give a path"),
    "a number": (3, "int: give a path"),
    "text file": (io.StringIO("x"), "mode 'rb'"),
    "a masked array": (np.ma.masked_array(GREY), "masked array: fill it"),
    "signed 32 bits": (Image.fromarray(np.full((64, 64), 70_000, np.int32)), "0 to 65535"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(model: pupilla.Model, name: str) -> None:
    image, text = IMAGES[name]
    with pytest.raises(pupilla.ImageError, match=text):
        model.inspect(image)


def test_files(model: pupilla.Model, tmp_path: Path, stain: Path) -> None:
    with pytest.raises(pupilla.ImageError, match="does not exist"):
        model.inspect(tmp_path / "missing.png")
    with pytest.raises(pupilla.ImageError, match="not a file"):
        model.inspect(tmp_path)
    closed = open(stain, "rb")
    closed.close()
    with pytest.raises(pupilla.ImageError, match="closed file"):
        model.inspect(closed)
    closed_picture = Image.open(stain)
    closed_picture.close()
    with pytest.raises(pupilla.ImageError, match="cannot be loaded"):
        model.inspect(closed_picture)


def test_an_image_that_is_too_small() -> None:
    small = pupilla.train(
        [part(seed) for seed in range(4)], resize="none", detector="student-teacher", scales=17, steps=2, progress=False
    )
    with pytest.raises(pupilla.InspectionError, match="the image"):
        small.inspect(np.zeros((2, 2), np.uint8))


def test_the_names_of_images_in_a_list(model: pupilla.Model) -> None:
    images = [part(1), part(2).astype(np.int32), part(3)]
    with pytest.raises(pupilla.ImageError, match="image 1 has values"):
        list(model.inspect_many(images))
    with pytest.raises(pupilla.ImageError, match="image 1 has values"):
        pupilla.train(images)


def test_what_cannot_be_inspected(model: pupilla.Model, tmp_path: Path) -> None:
    with pytest.raises(pupilla.PupillaError, match="no image"):
        list(model.inspect_many(tmp_path))
    with pytest.raises(pupilla.ImageError, match="does not exist"):
        list(model.inspect_many(tmp_path / "missing"))
    for one in (part(1), GREY, b"bytes"):
        with pytest.raises(pupilla.ImageError, match="list of images"):
            list(model.inspect_many(one))


def test_what_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(pupilla.DatasetError, match="does not exist"):
        pupilla.train(tmp_path / "missing")
    with pytest.raises(pupilla.PupillaError, match="no image"):
        pupilla.train(tmp_path)
    with pytest.raises(pupilla.PupillaError, match="at least 2"):
        pupilla.train([part(1)], progress=False)
    with pytest.raises(pupilla.PupillaError, match="at least 2|none of the 0"):
        pupilla.train([], progress=False)
    for one in (part(1), GREY, b"bytes"):
        with pytest.raises(pupilla.ImageError, match="list of images"):
            pupilla.train(one)
    for nothing in (None, 3, {"a": 1}):
        with pytest.raises(pupilla.ImageError, match="neither a folder nor a list"):
            pupilla.train(nothing)


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"step": 3}, "train has no setting step: is steps meant?"),
    "unknown and unlike": ({"colour": 3}, "its settings are out, force, detector"),
    "of another detector": ({"detector": "padim", "steps": 3}, "steps belongs to detector"),
    "no such detector": ({"detector": "yolo"}, "yolo"),
    "out of range": ({"detector": "student-teacher", "students": 0}, "students"),
    "no number": ({"detector": "l2-ae", "steps": "many"}, 'steps is "many": invalid digit'),
    "no value of it": ({"detector": "student-teacher", "preset": "fast"}, 'preset is "fast": give quick, paper'),
    "a list": ({"seed": [1, 2]}, "one value"),
    "no switch": ({"recursive": "yes"}, "True or False"),
    "both lengths": ({"detector": "l2-ae", "steps": 3, "budget": "1m"}, "budget"),
    "resume without a file": ({"detector": "l2-ae", "resume": True}, "resume goes on with the checkpoint of out"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(good: Path, name: str) -> None:
    settings, text = SETTINGS[name]
    with pytest.raises(pupilla.SettingError, match=text) as raised:
        pupilla.train(good, **settings)
    assert "--" not in str(raised.value)


def test_settings_of_folders_do_not_belong_to_lists(model: pupilla.Model) -> None:
    images = [part(seed) for seed in range(3)]
    for setting in ({"good": "x"}, {"recursive": True}, {"category": "x"}):
        for call in (pupilla.train, model.calibrate, pupilla.plan):
            with pytest.raises(pupilla.SettingError, match="says how a folder is read"):
                call(images, **setting)
        with pytest.raises(pupilla.SettingError, match="says how a folder is read"):
            pupilla.score([GREY], [None], **setting)


def test_wrong_settings_of_the_program_are_told_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(pupilla.SettingError, match='seed is "x"'):
        pupilla.demo(tmp_path / "demo", seed="x")
    with pytest.raises(pupilla.SettingError, match='detectors is "yolo"'):
        pupilla.compare(tmp_path, tmp_path / "out", detectors=["yolo"])
    with pytest.raises(pupilla.SettingError, match='scale is "19"'):
        pupilla.teacher_train(tmp_path, tmp_path / "teacher", scale=19)


def test_names_of_files_stay_as_they_are(tmp_path: Path, model: pupilla.Model) -> None:
    for name in ("my--model-x--y.pupilla", "--steps.pupilla"):
        with pytest.raises(pupilla.ModelError, match=name):
            pupilla.Model.load(tmp_path / name)
    odd = tmp_path / "a--b \udcff.png"
    Image.fromarray(GREY).save(odd)
    assert model.inspect(odd).path == str(odd)


def test_settings_of_an_inspection(model: pupilla.Model, stain: Path) -> None:
    with pytest.raises(pupilla.SettingError, match="booleans"):
        model.inspect(stain, roi=GREY)
    with pytest.raises(pupilla.SettingError, match="marks no pixel"):
        model.inspect(stain, roi=GREY > 0)
    with pytest.raises(pupilla.SettingError, match="64×64"):
        model.inspect(stain, roi=np.ones((3, 3), bool))
    with pytest.raises(pupilla.SettingError, match="threshold"):
        model.inspect(stain, threshold=float("nan"))
    for value in ("high", float("inf"), 1e300):
        with pytest.raises(pupilla.SettingError, match="threshold is"):
            model.inspect(stain, threshold=value)
    for value in (-1, 1.5, 1 << 70):
        with pytest.raises(pupilla.SettingError, match="min_area is"):
            model.inspect(stain, min_area=value)
    # Told where it was given, not at the first result.
    with pytest.raises(pupilla.SettingError, match="roi"):
        model.inspect_many([stain], roi=3)


def test_files_that_are_no_models(model_file: Path, stain: Path, tmp_path: Path) -> None:
    with pytest.raises(pupilla.ModelError, match="missing.pupilla"):
        pupilla.Model.load(tmp_path / "missing.pupilla")
    with pytest.raises(pupilla.ModelError, match=str(stain)):
        pupilla.Model.load(stain)
    content = model_file.read_bytes()
    for wrong in (b"", content[:100], content[:-1]):
        with pytest.raises(pupilla.ModelError):
            pupilla.Model.from_bytes(wrong)
    version = b'\\"format_version\\":'
    assert content.count(version) == 1
    at = content.index(version) + len(version)
    with pytest.raises(pupilla.ModelError, match="version 9"):
        pupilla.Model.from_bytes(content[:at] + b"9" + content[at + 1 :])
    with pytest.raises(pupilla.SettingError, match="dense belongs to student-teacher"):
        pupilla.Model.load(model_file, dense=True)


def test_a_model_is_not_replaced_unasked(good: Path, model_file: Path) -> None:
    with pytest.raises(pupilla.SettingError, match="force to replace it"):
        pupilla.train(good, resize=64, out=model_file, progress=False)


def test_maps(data: Path) -> None:
    dataset = pupilla.Dataset(data)
    maps = [np.zeros((64, 64), np.float32) for _ in dataset.test]
    with pytest.raises(pupilla.PupillaError, match="7 anomaly maps for 8 test images"):
        pupilla.score(maps[1:], dataset)
    with pytest.raises(pupilla.PupillaError, match="32×32 pixels, its image 64×64"):
        pupilla.score([np.zeros((32, 32)), *maps[1:]], dataset)
    with pytest.raises(pupilla.PupillaError, match="not finite"):
        pupilla.score([np.full((64, 64), np.inf), *maps[1:]], dataset)
    with pytest.raises(pupilla.ImageError, match="map 0 is an array"):
        pupilla.score([np.zeros((64, 64, 3)), *maps[1:]], dataset)
    with pytest.raises(pupilla.ImageError, match="have no map"):
        pupilla.score({str(dataset.test[0].path): maps[0]}, dataset)
    with pytest.raises(pupilla.ImageError, match="mask > 0"):
        pupilla.score(maps[:1], [np.zeros((64, 64), np.uint8)])
    with pytest.raises(pupilla.SettingError, match="2 maps, 1 masks"):
        pupilla.score(maps[:2], [None])


def test_threads_and_devices() -> None:
    for count in (0, 5000):
        with pytest.raises(pupilla.SettingError, match="threads are out of range"):
            pupilla.set_threads(count)
    with pytest.raises(pupilla.SettingError, match="no device"):
        pupilla.set_device("tpu")
    with pytest.raises(pupilla.DeviceError, match="gpu"):
        pupilla.set_device("gpu")
    assert pupilla.set_device("cpu") == pupilla.set_device("cpu") == pupilla.device()
    with pytest.raises(pupilla.DeviceError, match="start another process"):
        pupilla.set_device("gpu")


def test_a_folder_that_changes_while_it_is_read(good: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(good, copy)

    def remove_one(event: dict[str, Any]) -> None:
        if event["event"] == "finish" and event["stage"] == "reading images":
            for path in copy.iterdir():
                path.unlink()

    with pytest.raises(pupilla.PupillaError, match="does not exist"):
        pupilla.train(copy, resize=64, detector="l2-ae", steps=400, progress=remove_one)
