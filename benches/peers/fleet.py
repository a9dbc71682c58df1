#!/usr/bin/env python3
"""Measures `pupilla.ray` with 1 and 2 workers of one CPU each, and one process without Ray, in turn, in one run.

    python3 -m venv VENV && VENV/bin/pip install "./bindings/python[ray]"
    VENV/bin/python benches/peers/fleet.py CATEGORY [--model FILE] [--copies 3] [--rounds 3] [--grid] [--json FILE]

CATEGORY is a data set as `pupilla train` takes it. Without `--model`, the default detector is trained on it first, with
one thread. All images of CATEGORY (`--copies` times, under other names) are then judged by `pupilla.ray.inspect`,
and by `Model.inspect_many` of one process with one thread. The rate counts from the first file of verdicts to the last:
the start of the workers does not count, and has a figure of its own. With `--grid`, two trainings are timed too, one
after the other and side by side. Prints the rounds to standard error and one JSON object to standard output; its
`ratios` are medians over the rounds.
"""

# A script beside this one has the name of a module of Python's own.
import sys

if __name__ == "__main__":
    sys.path.pop(0)

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import pupilla  # noqa: E402
import pupilla.ray  # noqa: E402
import ray  # noqa: E402

IMAGES_PER_FILE = 16


def copies(category, count, folder):
    """Links to all images of a data set."""
    data = pupilla.Dataset(category)
    images = [*data.good, *data.validation, *(test.path for test in data.test)]
    for index in range(count):
        for number, image in enumerate(images):
            os.symlink(image.resolve(), folder / f"{index}-{number}{image.suffix}")
    return sorted(str(path) for path in folder.iterdir())


def without_ray(model, images):
    pupilla.set_threads(1)
    judge = model.inspect_many(images)
    next(judge)
    start = time.monotonic()
    count = sum(1 for _ in judge)
    return {"rate": count / (time.monotonic() - start)}


def with_ray(model, images, workers, out):
    told = []

    def tell(event):
        if event["event"] == "progress":
            told.append((time.monotonic(), event["done"]))

    start = time.monotonic()
    pupilla.ray.inspect(images, model, out=out, workers=workers, images_per_file=IMAGES_PER_FILE, progress=tell)
    end = time.monotonic()
    (first, before), (last, done) = told[0], told[-1]
    rate = (done - before) / (last - first)
    return {"rate": rate, "start_seconds": first - start - IMAGES_PER_FILE * workers / rate, "seconds": end - start}


def trained(category, out, seeds):
    start = time.monotonic()
    rows = pupilla.ray.train_grid([category], ["memory-bank"], seeds, out=out)
    assert not any(row["error"] for row in rows)
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category")
    parser.add_argument("--model")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    found = {"pupilla": pupilla.__version__, "ray": ray.__version__, "rounds": []}
    pupilla.set_threads(1)
    if options.model:
        model = pupilla.Model.load(options.model)
    else:
        start = time.monotonic()
        model = pupilla.train(options.category, progress=False)
        found["train_seconds"] = time.monotonic() - start
    found["model_bytes"] = len(model.to_bytes())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        images = copies(options.category, options.copies, place / "images")
        found["images"] = len(images)
        for index in range(options.rounds):
            one = {"without": without_ray(model, images)}
            for workers in (1, 2):
                one[str(workers)] = with_ray(model, images, workers, place / f"{index}-{workers}")
            if options.grid:
                apart = [trained(options.category, place / f"grid-{index}-{seed}", [seed]) for seed in (0, 1)]
                together = trained(options.category, place / f"grid-{index}", [0, 1])
                one["grid"] = {"apart": sum(apart), "side_by_side": together}
            found["rounds"].append(one)
            print(json.dumps(one), file=sys.stderr)
    rounds = found["rounds"]

    def median(of):
        return statistics.median(of(one) for one in rounds)

    found["rates"] = {name: median(lambda one: one[name]["rate"]) for name in ("without", "1", "2")}
    found["start_seconds"] = {name: median(lambda one: one[name]["start_seconds"]) for name in ("1", "2")}
    found["ratios"] = {
        "2_workers_to_1": median(lambda one: one["2"]["rate"] / one["1"]["rate"]),
        "1_worker_to_without": median(lambda one: one["1"]["rate"] / one["without"]["rate"]),
    }
    if options.grid:
        found["ratios"]["grid"] = median(lambda one: one["grid"]["apart"] / one["grid"]["side_by_side"])
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        Path(options.json).write_text(text)


if __name__ == "__main__":
    main()
