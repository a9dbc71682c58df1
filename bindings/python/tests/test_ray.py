"""Inspection and training on a local cluster of Ray with two CPUs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pupilla
from pupilla.errors import DatasetError, ImageError, ModelError, SettingError

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
pytest.importorskip("fsspec")
pq = pytest.importorskip("pyarrow.parquet")
Image = pytest.importorskip("PIL.Image")

import pupilla.ray  # noqa: E402
from pupilla.ray import Inspect, inspect, train_grid  # noqa: E402

SIDE = 64
SETTINGS = {"detector": "padim", "resize": SIDE, "channels": 20}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # The workers do not find this module.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def one_thread():
    pupilla.set_threads(1)
    yield
    pupilla.set_threads(None)


def draw(path, seed, defect=False):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = 120 + 40 * np.sin(x / 5) + 20 * np.cos(y / 7) + random.normal(0, 4, (SIDE, SIDE))
    if defect:
        pixels[20:30, 24:36] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def draw_part(root):
    for index in range(12):
        draw(root / f"train/good/{index:03}.png", index)
    for index in range(4):
        draw(root / f"test/good/{index:03}.png", 100 + index)
        draw(root / f"test/spot/{index:03}.png", 200 + index, defect=True)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[20:30, 24:36] = 255
        path = root / f"ground_truth/spot/{index:03}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    return draw_part(tmp_path_factory.mktemp("data") / "part")


@pytest.fixture(scope="module")
def images(part):
    return sorted(str(path) for path in (part / "test").rglob("*.png"))


@pytest.fixture(scope="module")
def model(part, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "part.pupilla"
    pupilla.set_threads(1)
    pupilla.train(part, **SETTINGS).save(path)
    return path


@pytest.fixture(scope="module")
def local(model, images):
    """What one process says of the images."""
    return {path: pupilla.Model.load(model).inspect(path) for path in images}


def numbers_of(local, **others):
    defective = sum(result.pred_label for result in local.values())
    return {"judged": len(local), "defective": defective, "unreadable": 0, "before": 0, **others}


def scores(local):
    return sorted((path, result.pred_score, result.pred_label) for path, result in local.items())


def found(folder):
    """The rows of Parquet files."""
    rows = [row for file in Path(folder).glob("part-*.parquet") for row in pq.read_table(file).to_pylist()]
    return sorted((row["path"], row["pred_score"], row["pred_label"]) for row in rows)


def pool(dataset, size=2, inspect_class=Inspect, **settings):
    strategy = ray.data.ActorPoolStrategy(size=size)
    return dataset.map_batches(
        inspect_class, fn_constructor_kwargs=settings, compute=strategy, num_cpus=1, batch_size=2
    )


def die_once(marker):
    """Kills the process, if none was killed before."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


# `Inspect`


def test_a_pool_of_actors_gives_the_scores_of_one_process(model, images, local):
    rows = [{"path": path, "id": index} for index, path in enumerate(images)]
    given = ray.data.from_items(rows, override_num_blocks=4)
    verdicts = pool(given, model=str(model)).take_all()
    assert sorted((row["path"], row["pred_score"], row["pred_label"]) for row in verdicts) == scores(local)
    assert [images[row["id"]] for row in verdicts] == [row["path"] for row in verdicts]
    assert {row["region_count"] > 0 for row in verdicts if row["pred_label"]} == {True}


@pytest.mark.parametrize("kind", ["address", "bytes", "array"])
@pytest.mark.parametrize("stored", ["address", "bytes", "object store"])
def test_images_and_models_come_from_everywhere(kind, stored, model, images, local):
    given = {
        "address": lambda path: f"file://{path}",
        "bytes": lambda path: Path(path).read_bytes(),
        "array": lambda path: np.asarray(Image.open(path)),
    }[kind]
    content = model.read_bytes()
    stored_model = {"address": f"file://{model}", "bytes": content, "object store": ray.put(content)}[stored]
    table = Inspect(stored_model, column="picture")({"picture": [given(path) for path in images], "key": list(images)})
    assert ("picture" in table.column_names) == (kind == "address")
    columns = [table[name].to_pylist() for name in ("key", "pred_score", "pred_label")]
    assert sorted(zip(*columns)) == scores(local)


def test_types_do_not_depend_on_what_is_in_a_batch(model, images, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    judge = Inspect(str(model), skip_unreadable=True, regions=True, heatmaps=tmp_path / "heatmaps")
    good = judge({"path": np.array(images, dtype=object)})
    bad = judge({"path": np.array([str(damaged), "file:///no/such.png", None], dtype=object)})
    assert good.schema == bad.schema
    assert bad["pred_label"].to_pylist() == bad["pred_score"].to_pylist() == [None, None, None]
    assert "damaged.png" in bad["error"][0].as_py()
    assert "/no/such.png" in bad["error"][1].as_py()
    assert good["error"].null_count == len(images)


def test_regions_maps_and_heatmaps_are_those_of_one_process(model, images, local, tmp_path):
    settings = {"regions": True, "anomaly_map": True, "heatmaps": f"file://{tmp_path}/heatmaps"}
    given = ray.data.from_items([*images, "/no/such.png"])
    rows = pool(given, model=str(model), skip_unreadable=True, **settings).take_all()
    judged = [row for row in rows if row["error"] is None]
    assert {row["item"] for row in judged} == set(images)
    assert [row["anomaly_map"].size for row in rows if row["error"]] == [0]
    for row in judged:
        result = local[row["item"]]
        assert json.loads(row["regions"]) == json.loads(json.dumps(result.to_dict()["regions"]))
        assert row["anomaly_map"].dtype == np.float32
        assert np.array_equal(row["anomaly_map"], result.anomaly_map)
        assert np.array_equal(np.asarray(Image.open(row["heatmap"])), result.heatmap())
    assert len(list((tmp_path / "heatmaps").iterdir())) == len(images)


def test_settings_of_inspect_reach_the_model(model, images):
    def judged(**settings):
        return Inspect(str(model), **settings)({"path": images})

    assert set(judged(threshold=0.0)["pred_label"].to_pylist()) == {True}
    assert set(judged(min_area=SIDE * SIDE + 1)["region_count"].to_pylist()) == {0}
    corner = np.zeros((SIDE, SIDE), dtype=bool)
    corner[:8, :8] = True
    model_itself = pupilla.Model.load(model)
    expected = [model_itself.inspect(path, roi=corner).pred_score for path in images]
    assert judged(roi=corner)["pred_score"].to_pylist() == expected


def test_a_column_that_is_missing_is_named(model, images):
    with pytest.raises(SettingError, match="there is no column image or bytes or path or item among file"):
        Inspect(str(model))({"file": images})
    with pytest.raises(SettingError, match="there is no column file among path"):
        Inspect(str(model), column="file")({"path": images})


@pytest.mark.parametrize("cpus", [0, 1, 2])
def test_threads_are_the_cpus_of_the_worker(cpus, model):
    class Threads(Inspect):
        def threads(self):
            return pupilla.threads()

    actor = ray.remote(Threads).options(num_cpus=cpus).remote(str(model))
    assert ray.get(actor.threads.remote()) == max(1, cpus)


def test_an_actor_that_is_killed_loses_and_doubles_nothing(model, images, local, tmp_path):
    marker = tmp_path / "killed"

    class Dying(Inspect):
        def __call__(self, batch):
            table = super().__call__(batch)
            die_once(marker)
            return table

    given = ray.data.from_items([{"path": path} for path in images], override_num_blocks=4)
    rows = pool(given, inspect_class=Dying, model=str(model)).take_all()
    assert marker.exists()
    assert sorted((row["path"], row["pred_score"], row["pred_label"]) for row in rows) == scores(local)


# `inspect`


def test_a_folder_is_judged_as_by_one_process(model, part, local, tmp_path):
    numbers = inspect(part / "test", model, out=f"file://{tmp_path}/out")
    assert numbers == numbers_of(local)
    assert found(tmp_path / "out") == scores(local)


def test_a_second_call_repeats_nothing_and_takes_new_images_and_damaged_files(model, part, images, local, tmp_path):
    inspect(images[:6], model, out=tmp_path, workers=2, images_per_file=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert inspect(images[:6], model, out=tmp_path) == numbers_of({}, before=6)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

    with pytest.raises(SettingError, match="another model: give another folder"):
        inspect(images, pupilla.train(part, **{**SETTINGS, "seed": 1}), out=tmp_path)
    with pytest.raises(SettingError, match="another threshold: give another folder"):
        inspect(images, model, out=tmp_path, threshold=1.5)

    cut, *_ = tmp_path.glob("part-*.parquet")
    cut.write_bytes(cut.read_bytes()[:-9])
    numbers = inspect(images, model, out=tmp_path)
    assert (numbers["judged"], numbers["before"]) == (4, 4)
    assert found(tmp_path) == scores(local)


def test_lines_of_json(model, images, local, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    settings = {"format": "jsonl", "regions": True, "skip_unreadable": True, "images_per_file": 3}
    numbers = inspect([*images, damaged], model, out=tmp_path, **settings)
    assert numbers == numbers_of(local, judged=9, unreadable=1)
    files = list(tmp_path.glob("part-*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert "damaged.png" in [line["error"] for line in lines if line["path"] == str(damaged)][0]
    judged = [line for line in lines if line["error"] is None]
    assert sorted((row["path"], row["pred_score"], row["pred_label"]) for row in judged) == scores(local)
    for row in judged:
        assert row["regions"] == json.loads(json.dumps(local[row["path"]].to_dict()["regions"]))

    files[0].write_bytes(files[0].read_bytes()[:-9])
    (tmp_path / "part-double.jsonl").write_bytes(files[1].read_bytes())
    (tmp_path / ".part-begun.jsonl").write_bytes(b"")
    assert len(pupilla.ray._judged_before(pupilla.ray._Folder(tmp_path), "jsonl")) == 6
    assert len(list(tmp_path.glob("*part-*.jsonl"))) == 2


def test_a_worker_that_is_killed_after_it_wrote_loses_and_doubles_nothing(
    model, images, local, tmp_path, monkeypatch
):
    marker = tmp_path / "killed"

    class Dying(pupilla.ray._Writer):
        def __call__(self, batch):
            numbers = super().__call__(batch)
            die_once(marker)
            return numbers

    monkeypatch.setattr(pupilla.ray, "_Writer", Dying)
    numbers = inspect(images, model, out=tmp_path / "out", workers=2, images_per_file=2)
    assert marker.exists()
    assert numbers == numbers_of(local)
    assert found(tmp_path / "out") == scores(local)


def test_a_call_that_is_killed_goes_on(model, images, local, tmp_path):
    script = f"""
import os, signal, ray, pupilla.ray
ray.init(address={ray.get_runtime_context().gcs_address!r}, log_to_driver=False)
def kill(event):
    if event["event"] == "progress":
        os.kill(os.getpid(), signal.SIGKILL)
pupilla.ray.inspect({images!r}, {str(model)!r}, out={str(tmp_path)!r}, workers=1, images_per_file=1, progress=kill)
"""
    status = subprocess.run([sys.executable, "-c", script], capture_output=True).returncode
    assert status == -signal.SIGKILL
    numbers = inspect(images, model, out=tmp_path, images_per_file=1)
    assert numbers["judged"] + numbers["before"] == len(images)
    assert numbers["before"] >= 1
    assert found(tmp_path) == scores(local)


def test_an_existing_data_set_of_ray(model, images, local, tmp_path):
    given = ray.data.read_binary_files(images, include_paths=True)
    assert inspect(given, model, out=tmp_path, images_per_file=3) == numbers_of(local)
    assert found(tmp_path) == scores(local)
    assert inspect(given, model, out=tmp_path, images_per_file=3) == numbers_of({}, before=8)


def test_images_without_addresses_cannot_go_on(model, images, tmp_path):
    given = ray.data.from_items([{"image": np.asarray(Image.open(images[0]))}] * 6)
    assert inspect(given, model, out=tmp_path, images_per_file=2)["judged"] == 6
    rows = [pq.read_table(file).num_rows for file in tmp_path.glob("*.parquet")]
    assert sum(rows) == 6
    with pytest.raises(SettingError, match="give another folder|Give another folder"):
        inspect(given, model, out=tmp_path)


def test_an_unreadable_image_ends_the_call(model, images, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    with pytest.raises(ImageError, match="damaged.png is not a PNG"):
        inspect([*images, damaged], model, out=tmp_path / "out")


def test_a_folder_is_listed_as_the_program_lists_it(part, tmp_path):
    root = tmp_path / "images"
    for name in ("b/1.PNG", "a.jpg", ".hidden/2.png", "Thumbs.db", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    listed = pupilla.ray._listed
    assert listed(root, None) == [f"{root}/a.jpg", f"{root}/b/1.PNG"]
    assert listed(f"file://{root}/*/*", None) == [f"{root}/b/1.PNG"]
    assert listed([root / "a.jpg", f"{root}/a.jpg", "s3://b/c.png"], None) == [f"{root}/a.jpg", "s3://b/c.png"]


def test_a_store_of_objects_is_a_folder():
    folder = pupilla.ray._Folder("memory://bucket/out")
    assert folder.names() == []
    assert folder.read("a/b.json") is None
    folder.write("c.json", b"1")
    folder.write("c.json", b"2")
    assert (folder.names(), folder.read("c.json")) == (["c.json"], b"2")
    folder.remove("c.json")
    assert pupilla.ray._Folder(folder.root).read("c.json") is None


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"images": "/no/such/folder"}, DatasetError, "/no/such/folder does not exist"),
        ({"images": []}, DatasetError, "holds no image"),
        ({"images": [b"bytes"]}, SettingError, "ray.data.Dataset of bytes or arrays"),
        ({"images": "nothing://bucket/a"}, SettingError, "Protocol not known"),
        ({"model": "/no/such.pupilla"}, ModelError, "/no/such.pupilla"),
        ({"model": "file:///no/such.pupilla"}, ModelError, "there is no model file:///no/such.pupilla"),
        ({"model": b"no model"}, ModelError, "the model"),
        ({"workers": 0}, SettingError, "workers is 0: give a whole number from 1"),
        ({"cpus_per_worker": 0.5}, SettingError, "cpus_per_worker is 0.5: give a whole number from 1"),
        ({"images_per_file": -1}, SettingError, "images_per_file is -1"),
        ({"format": "csv"}, SettingError, "parquet or jsonl"),
        ({"anomaly_map": True}, SettingError, "anomaly_map is a setting of Inspect"),
    ],
)
def test_bad_input_of_inspect(change, error, text, model, images, tmp_path):
    given = {"images": images, "model": model, "out": tmp_path / "out", **change}
    with pytest.raises(error, match=text):
        inspect(given.pop("images"), given.pop("model"), **given)


def test_heatmaps_do_not_lie_among_the_images(model, part, tmp_path):
    with pytest.raises(SettingError, match="give a folder beside the images"):
        inspect(part / "test", model, out=tmp_path, heatmaps=part / "test" / "heatmaps")


# `train_grid`


def files_of(folder):
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != "table.csv")
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


def test_models_of_a_grid_equal_those_of_one_process_to_the_byte(part, tmp_path):
    out = tmp_path / "out"
    detectors = {"padim": {"channels": 20}, "mahalanobis": {}}
    rows = train_grid([part], detectors, [0, 1], out=f"file://{out}", resize=SIDE, fpr_limit=0.2)
    assert [(row["category"], row["detector"], row["seed"]) for row in rows] == [
        ("part", detector, seed) for detector in detectors for seed in (0, 1)
    ]
    for row in rows:
        own = {**detectors[row["detector"]], "detector": row["detector"], "seed": row["seed"]}
        expected = pupilla.train(part, resize=SIDE, **own)
        folder = Path(row["folder"])
        assert (folder / "model.pupilla").read_bytes() == expected.to_bytes()
        measured = json.loads((folder / "evaluation.json").read_text())
        local = pupilla.evaluate(expected, part, fpr_limit=0.2).to_dict()
        for values in (measured, local):
            del values["seconds_per_image"]
        assert measured == json.loads(json.dumps(local))
        assert row["au_pro"] == local["au_pro"]
    assert (out / "table.csv").read_text().count("\n") == 5

    before = files_of(out)
    again = train_grid([part], detectors, [0, 1], out=out, resize=SIDE, fpr_limit=0.2)
    assert [row["reused"] for row in again] == [True] * 4
    assert files_of(out) == before
    assert [row["au_pro"] for row in again] == [row["au_pro"] for row in rows]


def test_a_job_is_known_by_images_settings_and_threads(tmp_path):
    part = draw_part(tmp_path / "part")
    out = tmp_path / "out"

    def reused(**change):
        given = {"out": out, **SETTINGS, **change}
        return [row["reused"] for row in train_grid([part], [given.pop("detector")], **given)]

    assert reused() == [False]
    assert reused() == [True]
    assert reused(channels=21) == [False]
    assert reused(cpus_per_task=2) == [False]
    assert reused(min_area=2) == [False]
    assert reused() == [True]
    draw(part / "test/good/000.png", 999)
    assert reused() == [False]
    draw(part / "train/good/000.png", 999)
    assert reused() == [False]


def test_a_job_that_fails_does_not_end_the_others(part, tmp_path):
    with pytest.warns(pupilla.PupillaWarning, match="1 of 2 jobs failed"):
        # There are not as many descriptors as the dictionary has entries.
        rows = train_grid([part], ["1-nn", "mahalanobis"], out=tmp_path, resize=SIDE)
    failed, done = rows
    assert "entries cannot be made of" in failed["error"]
    assert failed["au_pro"] is None
    assert done["error"] is None
    assert done["au_pro"] > 0
    assert "entries cannot be made of" in (tmp_path / "table.csv").read_text()


def test_a_task_that_is_killed_begins_anew(part, tmp_path, monkeypatch):
    marker, run = tmp_path / "killed", pupilla.ray._run_job

    def dying(job, out):
        die_once(marker)
        return run(job, out)

    monkeypatch.setattr(pupilla.ray, "_run_job", dying)
    (row,) = train_grid(part, ["padim"], out=tmp_path / "out", resize=SIDE, channels=20)
    assert marker.exists()
    assert row["error"] is None
    model = pupilla.train(part, seed=0, **SETTINGS)
    assert Path(row["folder"], "model.pupilla").read_bytes() == model.to_bytes()


def test_a_task_that_always_dies_is_an_error_in_the_table(part, tmp_path, monkeypatch):
    def dying(job, out):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(pupilla.ray, "_run_job", dying)
    with pytest.warns(pupilla.PupillaWarning, match="1 of 1 jobs failed"):
        (row,) = train_grid(part, ["padim"], out=tmp_path, max_retries=0)
    assert "WorkerCrashedError" in row["error"]


def test_images_that_change_during_a_training_are_told(part, tmp_path):
    job = pupilla.ray._Job("part", str(part), "padim", SETTINGS, {}, 0, 1, {"images": "other images"})
    with pytest.raises(DatasetError, match="has changed during the training: call train_grid again"):
        job.run(pupilla.ray._Folder(tmp_path))
    assert not list(tmp_path.rglob("job.json"))


def test_a_category_without_test_images_is_trained(part, tmp_path):
    (row,) = train_grid(
        {"nut": part / "train/good"}, "padim", np.arange(1), out=tmp_path, resize=SIDE, channels=20
    )
    assert (row["category"], row["error"], row["au_pro"]) == ("nut", None, None)
    assert pupilla.Model.load(f"{row['folder']}/model.pupilla").detector == "padim"


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"categories": ["/no/such/folder"]}, DatasetError, "/no/such/folder does not exist"),
        ({"categories": ["s3://bucket/part"]}, SettingError, "give a folder that every machine sees"),
        ({"categories": []}, SettingError, "categories is empty"),
        ({"categories": ["/a/part", "/b/part"]}, SettingError, "two categories have the name part"),
        ({"detectors": []}, SettingError, "detectors is empty"),
        ({"seeds": 3}, SettingError, r"give a list of whole numbers, as range\(3\)"),
        ({"seeds": [0.5]}, SettingError, "give a list of whole numbers"),
        ({"seeds": []}, SettingError, "seeds is empty"),
        ({"cpus_per_task": 0}, SettingError, "cpus_per_task is 0"),
        ({"max_retries": -1}, SettingError, "max_retries is -1"),
        ({"chanels": 20}, SettingError, "is channels meant"),
        ({"force": True}, SettingError, "train_grid chooses force itself"),
        ({"report": "folder"}, SettingError, "train_grid chooses report itself"),
    ],
)
def test_bad_input_of_train_grid(change, error, text, part, tmp_path):
    given = {"categories": [part], "detectors": ["padim"], "out": tmp_path, **change}
    with pytest.raises(error, match=text):
        train_grid(given.pop("categories"), given.pop("detectors"), **given)


# The module


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("missing", ["ray", "fsspec", "pyarrow"])
def test_a_missing_package_is_named(missing):
    told = run(f"import sys; sys.modules[{missing!r}] = None; import pupilla.ray")
    assert 'pip install "pupilla[ray]"' in told.stderr


def test_pupilla_does_not_import_ray():
    code = "import sys, pupilla; print([name for name in ('ray', 'fsspec', 'pyarrow') if name in sys.modules])"
    assert run(code).stdout == "[]\n"


def test_more_cpus_than_a_machine_has_are_told(model, images, tmp_path):
    def told(images, cpus):
        def stop(event):
            raise InterruptedError

        with pytest.warns(pupilla.PupillaWarning) as warnings, pytest.raises(InterruptedError):
            inspect(images, model, out=tmp_path, cpus_per_worker=cpus, progress=stop)
        return str(warnings[0].message)

    assert "a worker needs 3 CPUs, and no machine of the cluster has more than 2" in told(images, 3)
    assert "Ray needs another to read the images" in told(ray.data.read_binary_files(images, include_paths=True), 2)
