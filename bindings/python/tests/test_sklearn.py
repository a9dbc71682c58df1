"""`pupilla.sklearn`: the outlier detector keeps scikit-learn's rules, and gives the scores of the library."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

import pupilla
from pupilla.errors import ImageError, SettingError

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from pupilla.sklearn import AnomalyDetector

SIDE = 64


def part(seed: int, defect: bool = False) -> np.ndarray:
    """An even grey part with noise; a defect is a bright square."""
    pixels = 128 + 12 * np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    if defect:
        pixels[20:32, 30:42] += 90
    return np.clip(pixels, 0, 255).astype(np.uint8)


GOOD = [part(seed) for seed in range(14)]
NEW = [part(seed) for seed in range(50, 54)]
DEFECTIVE = [part(seed, defect=True) for seed in range(100, 106)]


@pytest.fixture(scope="module")
def fitted() -> AnomalyDetector:
    return AnomalyDetector(resize=SIDE).fit(GOOD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("images")
    for index, pixels in enumerate(GOOD):
        image.fromarray(pixels).save(root / f"{index:02}.png")
    return root


class Scaled(AnomalyDetector):
    """Scales any numbers to pixels first, because most of scikit-learn's checks draw numbers outside [0, 1]."""

    def _table(self, X, *, reset):
        table = validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1)
        return 0.5 + np.arctan(table) / np.pi

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = False
        return tags


# `Scaled` passes each of them.
OUTSIDE = dict.fromkeys(
    [
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_outliers_fit_predict",
        "check_outliers_train",
        "check_pipeline_consistency",
        "check_readonly_memmap_input",
    ],
    "the check draws numbers outside [0, 1], which are no pixels",
)
EXPECTED_FAILURES = {
    **OUTSIDE,
    "check_classifier_data_not_an_array": "the check gives 64-bit integers, for which black and white are not defined",
}


# Half of the images that are kept back are outliers, so that the checks find outliers among the images to learn.
@parametrize_with_checks(
    [cls(image_shape=(1, -1), resize=16, false_reject=0.5) for cls in (AnomalyDetector, Scaled)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES if type(estimator) is AnomalyDetector else {},
    xfail_strict=True,
)
@pytest.mark.filterwarnings("ignore::pupilla.PupillaWarning")
def test_keeps_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def test_signs_and_verdicts_are_those_of_both_libraries(fitted):
    images = NEW + DEFECTIVE
    results = list(fitted.model_.inspect_many(images))
    assert is_outlier_detector(fitted)
    np.testing.assert_array_equal(fitted.score_samples(images), [-result.pred_score for result in results])
    np.testing.assert_array_equal(fitted.decision_function(images), fitted.score_samples(images) - fitted.offset_)
    assert fitted.offset_ == -fitted.model_.threshold
    np.testing.assert_array_equal(fitted.predict(images), [-1 if result.pred_label else 1 for result in results])
    np.testing.assert_array_equal(fitted.predict(DEFECTIVE), -np.ones(len(DEFECTIVE)))
    assert np.mean(fitted.predict(NEW) == 1) >= 0.5


def test_an_image_at_the_threshold_is_good(fitted):
    detector = clone(fitted).fit(GOOD)
    detector.model_.calibrate(NEW)
    highest = NEW[np.argmin(detector.score_samples(NEW))]
    assert detector.decision_function([highest]) == [0]
    assert detector.predict([highest]) == [1]
    assert not detector.model_.inspect(highest).pred_label


def test_trains_as_the_library_does(fitted):
    assert fitted.model_.to_bytes() == pupilla.train(GOOD, resize=SIDE).to_bytes()
    given = {"detector": "padim", "resize": SIDE, "false_reject": 0.3}
    more = {"channels": 20, "smoothing": 2}
    trained = AnomalyDetector(**given, random_state=3, settings=more).fit(GOOD)
    assert trained.model_.to_bytes() == pupilla.train(GOOD, seed=3, **given, **more).to_bytes()


def test_takes_images_of_every_kind(fitted, folder):
    image = pytest.importorskip("PIL.Image")
    paths = sorted(folder.iterdir())
    content = fitted.model_.to_bytes()
    scores = fitted.score_samples(GOOD)
    kinds = {
        "array": np.stack(GOOD),
        "paths": paths,
        "array of paths": np.array([str(path) for path in paths]),
        "bytes": [path.read_bytes() for path in paths],
        "PIL": [image.fromarray(pixels) for pixels in GOOD],
        "iterator": iter(GOOD),
    }
    for kind, images in kinds.items():
        model = clone(fitted).fit(images).model_
        # A model keeps the names of its files.
        if "paths" not in kind:
            assert model.to_bytes() == content, kind
        assert model.threshold == fitted.model_.threshold, kind
        assert np.array_equal(model.inspect(GOOD[0]).anomaly_map, fitted.model_.inspect(GOOD[0]).anomaly_map), kind
        if kind != "iterator":
            np.testing.assert_array_equal(fitted.score_samples(images), scores, err_msg=kind)
    table = clone(fitted).set_params(image_shape=(SIDE, SIDE)).fit(np.stack(GOOD).reshape(len(GOOD), -1))
    assert table.model_.to_bytes() == content
    assert table.n_features_in_ == SIDE * SIDE
    assert not hasattr(fitted, "n_features_in_")


def test_takes_images_of_colour():
    colour = [np.stack([pixels, 255 - pixels, pixels], axis=2) for pixels in GOOD]
    content = AnomalyDetector(resize=SIDE).fit(colour).model_.to_bytes()
    assert AnomalyDetector(resize=SIDE).fit(np.stack(colour)).model_.to_bytes() == content
    table = np.stack(colour).reshape(len(colour), -1)
    assert AnomalyDetector(resize=SIDE, image_shape=(SIDE, -1, 3)).fit(table).model_.to_bytes() == content


def test_a_table_keeps_its_type(fitted):
    table = np.stack(GOOD).reshape(len(GOOD), -1)
    whole = clone(fitted).set_params(image_shape=(SIDE, SIDE)).fit(table)
    floats = clone(whole).fit(table / 255)
    np.testing.assert_allclose(whole.score_samples(table), floats.score_samples(table / 255), atol=1e-3)
    with pytest.raises(ValueError, match="outside"):
        whole.score_samples(table.astype(float))


def test_labels_leave_defective_images_out(fitted):
    images = [GOOD[0], DEFECTIVE[0], *GOOD[1:], DEFECTIVE[1]]
    labels = [1, -1, *[1] * (len(GOOD) - 1), -1]
    content = fitted.model_.to_bytes()
    assert clone(fitted).fit(images, labels).model_.to_bytes() == content
    assert clone(fitted).fit(images).model_.to_bytes() != content
    with pytest.raises(ValueError, match="inconsistent"):
        clone(fitted).fit(images, labels[1:])


def test_parameters_are_read_set_and_cloned():
    detector = AnomalyDetector("padim", resize=32, settings={"channels": 20})
    assert detector.get_params()["detector"] == "padim"
    assert detector.set_params(false_reject=0.1) is detector
    copy = clone(detector)
    assert copy is not detector
    assert copy.get_params() == detector.get_params()
    assert "false_reject=0.1" in repr(detector)


def test_is_pickled_through_the_model_file(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert again.get_params() == fitted.get_params()
    assert again.model_.to_bytes() == fitted.model_.to_bytes()
    np.testing.assert_array_equal(again.decision_function(DEFECTIVE), fitted.decision_function(DEFECTIVE))


def test_calibration_moves_the_decision(fitted):
    moved = clone(fitted).fit(GOOD)
    before = moved.offset_
    moved.model_.calibrate(NEW)
    assert moved.offset_ == -moved.model_.threshold != before
    np.testing.assert_array_equal(moved.score_samples(NEW), fitted.score_samples(NEW))


def test_the_seed_is_the_random_state():
    def content(state):
        return AnomalyDetector(resize=SIDE, random_state=state).fit(GOOD).model_.to_bytes()

    assert content(None) == content(0) == content(np.int64(0))
    assert content(1) != content(0)
    assert content(np.random.RandomState(5)) == content(np.random.RandomState(5))
    state = np.random.RandomState(5)
    assert content(state) != content(state)


IMAGES = GOOD + DEFECTIVE
LABELS = np.array([1] * len(GOOD) + [-1] * len(DEFECTIVE))
FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_cross_validation_trains_with_good_images_alone(jobs):
    scores = cross_val_score(AnomalyDetector(resize=SIDE), IMAGES, LABELS, scoring="roc_auc", cv=FOLDS, n_jobs=jobs)
    np.testing.assert_array_equal(scores, [1, 1])


def test_a_search_finds_the_settings_that_find_the_defects():
    # With a rate of 0.9, nearly all good images are outliers.
    grid = {"false_reject": [0.01, 0.9], "detector": ["memory-bank", "mahalanobis"]}
    search = GridSearchCV(AnomalyDetector(resize=SIDE), grid, scoring="balanced_accuracy", cv=FOLDS)
    with pytest.warns(pupilla.PupillaWarning, match="needs at least 99 good images"):
        search.fit(np.stack(IMAGES), LABELS)
    assert search.best_params_["false_reject"] == 0.01
    assert search.best_score_ > 0.8
    np.testing.assert_array_equal(search.predict(np.stack(DEFECTIVE)), -np.ones(len(DEFECTIVE)))


def test_works_at_the_end_of_a_pipeline(fitted):
    def mirror(images):
        return [image[:, ::-1] for image in images]

    pipeline = make_pipeline(FunctionTransformer(mirror), AnomalyDetector(resize=SIDE))
    mirrored = mirror(IMAGES)
    pipeline.fit(mirrored, LABELS)
    assert pipeline[-1].model_.to_bytes() == fitted.model_.to_bytes()
    np.testing.assert_array_equal(pipeline.decision_function(mirrored), fitted.decision_function(IMAGES))


def test_progress_is_told_as_by_the_library():
    events = []
    AnomalyDetector(resize=SIDE, progress=events.append).fit(GOOD)
    assert "progress" in {event["event"] for event in events}


def test_fit_predict_judges_the_images_that_were_learned(fitted):
    np.testing.assert_array_equal(clone(fitted).fit_predict(GOOD), fitted.predict(GOOD))


@pytest.mark.parametrize(
    ("parameters", "images", "error", "text"),
    [
        ({}, GOOD[0], ImageError, "give image_shape"),
        ({}, np.stack(GOOD).reshape(len(GOOD), -1), ImageError, "give image_shape"),
        ({}, "images", ImageError, "several images"),
        ({}, np.stack([GOOD[0]] * 3, axis=2), ImageError, "may be one image or several"),
        ({}, [image.astype(float) for image in GOOD], ImageError, r"outside \[0, 1\]"),
        ({}, GOOD[:1], pupilla.DatasetError, "at least 2"),
        ({"image_shape": (60, 64)}, np.stack(GOOD).reshape(len(GOOD), -1), SettingError, r"image_shape \(60, 64\)"),
        ({"image_shape": 64}, np.stack(GOOD).reshape(len(GOOD), -1), SettingError, "image_shape 64"),
        ({"image_shape": (64, 64)}, np.stack(GOOD), ValueError, "array with dim 3"),
        ({"settings": {"seed": 3}}, GOOD, SettingError, "parameter random_state"),
        ({"settings": {"resize": 32}}, GOOD, SettingError, "parameter resize"),
        ({"settings": {"no_such_setting": 32}}, GOOD, SettingError, "no.such.setting"),
        ({"detector": "no-such-detector"}, GOOD, SettingError, "no-such-detector"),
        ({"random_state": "seed"}, GOOD, ValueError, "cannot be used to seed"),
    ],
)
def test_errors_say_what_to_do(parameters, images, error, text):
    with pytest.raises(error, match=text):
        AnomalyDetector(**{"resize": SIDE, **parameters}).fit(images)


def test_other_images_are_refused_after_training(fitted):
    with pytest.raises(NotFittedError):
        AnomalyDetector().predict(GOOD)
    with pytest.raises(ImageError, match="give image_shape"):
        fitted.predict(GOOD[0])
    with pytest.raises(ImageError, match="image 1 has the shape"):
        fitted.predict([GOOD[0], GOOD[0][0]])
    assert len(fitted.predict([])) == 0


def test_without_scikit_learn_the_package_works_and_says_what_to_install():
    code = """
import sys
sys.modules["sklearn"] = None
import pupilla
try:
    import pupilla.sklearn
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'pupilla[sklearn]'" in done.stdout
