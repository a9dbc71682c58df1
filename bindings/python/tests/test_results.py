"""What a result and an evaluation hold."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import SIDE, mask, part
from PIL import Image

import pupilla


def test_a_result_says_what_where_and_how_much(model: pupilla.Model, stain: Path) -> None:
    result = model.inspect(stain)
    assert result.pred_label is True and result.pred_score > result.threshold == model.threshold
    assert result.anomaly_map.shape == (SIDE, SIDE) and result.anomaly_map.dtype == np.float32
    assert result.anomaly_map.max() == np.float32(result.pred_score)
    assert result.pred_mask.dtype == bool
    assert np.array_equal(result.pred_mask, result.anomaly_map > np.float32(result.pixel_threshold))
    assert (result.pred_mask & mask()).any()
    region = result.regions[0]
    assert region.peak == pytest.approx(result.pred_score) and region.contour.shape[1] == 2
    column, row = region.peak_at
    assert result.anomaly_map[row, column] == result.anomaly_map.max()
    assert result.unlike_training == [] and result.parts is None
    assert "defective" in repr(result) and str(stain) in repr(result)
    good = model.inspect(part(50))
    assert good.pred_label is False and "good" in repr(good)


def test_the_map_is_not_copied(model: pupilla.Model, stain: Path) -> None:
    result = model.inspect(stain)
    assert np.shares_memory(result.anomaly_map, result.anomaly_map)
    kept = result.anomaly_map
    del result
    assert np.isfinite(kept).all()


def test_thresholds_regions_and_pixels_can_be_chosen(model: pupilla.Model, stain: Path) -> None:
    score = model.inspect(stain).pred_score
    assert model.inspect(stain, threshold=score).pred_label is False
    assert model.inspect(stain, threshold=score - 0.01).pred_label is True
    high = model.inspect(stain, pixel_threshold=score - 0.01)
    assert high.pred_mask.sum() < model.inspect(stain).pred_mask.sum()
    assert model.inspect(stain, min_area=SIDE * SIDE + 1).regions == []
    elsewhere = np.zeros((SIDE, SIDE), bool)
    elsewhere[50:] = True
    apart = model.inspect(stain, roi=elsewhere)
    assert apart.pred_score == apart.anomaly_map[50:].max() < score
    assert not (apart.pred_mask & ~elsewhere).any()


def test_the_parts_of_a_score(good: Path, stain: Path) -> None:
    students = pupilla.train(good, detector="student-teacher", scales=33, steps=4, resize=64, progress=False)
    result = students.inspect(stain)
    assert result.parts is not None
    assert set(result.parts["terms"]) == {"regression_error", "predictive_variance"}
    assert set(result.parts["scales"]) == {"33"}
    total = sum(part["score"] for part in result.parts["terms"].values())
    assert total == pytest.approx(result.pred_score, rel=1e-4)


def test_what_a_result_gives_away_changes_nothing(model: pupilla.Model, stain: Path) -> None:
    result = model.inspect(stain)
    result.to_dict()["regions"].clear()
    assert result.regions and result.to_dict()["regions"]
    with pytest.raises(TypeError, match="send to_dict"):
        pickle.dumps(result)


def test_a_data_set_can_be_sent(data: Path) -> None:
    dataset = pickle.loads(pickle.dumps(pupilla.Dataset(data, good="good")))
    assert dataset.good == pupilla.Dataset(data).good


def test_pictures(model: pupilla.Model, stain: Path, tmp_path: Path) -> None:
    result = model.inspect(stain)
    result.save_heatmap(tmp_path / "heatmap.png")
    for content in ((tmp_path / "heatmap.png").read_bytes(), result._repr_png_()):
        with Image.open(io.BytesIO(content)) as picture:
            assert np.array_equal(np.asarray(picture), result.heatmap())
    assert "data:image/png;base64," in result._repr_html_()
    named = model.inspect(stain.read_bytes())
    assert "the image" in named._repr_html_()


def test_an_evaluation_is_a_mapping_and_a_table(model: pupilla.Model, data: Path) -> None:
    found = pupilla.evaluate(model, data, progress=False)
    assert dict(found) == found.to_dict() and found["images"] == len(found["per_image"]) == 8
    assert "AU-PRO" in repr(found)
    assert found._repr_html_().count("<tr>") == 3
    assert found["confusion"]["defective_found"] == 4


def test_an_image_taken_otherwise_is_told(model: pupilla.Model) -> None:
    dark = model.inspect((part(1) * 0.2).astype(np.uint8))
    assert dark.unlike_training and any("brightness" in reason for reason in dark.unlike_training)


def test_a_data_set(data: Path) -> None:
    dataset = pupilla.Dataset(data)
    assert (dataset.name, len(dataset.good), len(dataset.test)) == ("disc", 14, 8)
    defects = {test.defect for test in dataset.test}
    assert defects == {None, "stain"}
    assert all(len(test.masks) == (test.defect is not None) for test in dataset.test)
    assert "MVTec" in repr(dataset)
