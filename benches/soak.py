#!/usr/bin/env python3
"""Long runs: thousands of images in one process, then many processes in turn. Memory must stay flat, files must be closed, and the same
image must have the same score to the last digit, first or last, in one process or another.

    cargo build --release
    target/release/pupilla demo
    python3 benches/soak.py [pupilla-demo/data/washer] [--images 10000] [--processes 100] [--json FILE]

Trains a small model (64×64, so that the time goes into the pipeline as well as into the networks), and links the test images again
and again. A first run, which keeps nothing, is for memory and files; a second of a tenth of the images and the processes in turn give
JSON, whose scores have all their digits. Needs Linux and nothing but Python. Fails if a promise is broken.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# After so many images everything that is allocated once has been.
WARM = 0.1


def watch(process, samples):
    """Resident MiB and open files of a process, once in a while until it ends."""
    proc = pathlib.Path("/proc") / str(process.pid)
    while process.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
            resident = int(status["VmRSS"].split()[0]) / 1024
            samples.append((time.monotonic(), resident, len(os.listdir(proc / "fd"))))
        except (OSError, KeyError):
            pass
        time.sleep(0.2)


def scores(text):
    """The score and verdict of each path, from JSON."""
    return {image["path"]: (image["score"], image["defective"]) for image in json.loads(text)["images"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=pathlib.Path, default="pupilla-demo/data/washer", help="a data set in MVTec's layout")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/pupilla")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run = lambda *words: subprocess.run([options.program, *map(str, words)], check=True, capture_output=True, text=True).stdout
        model = folder / "soak.pupilla"
        run("train", options.data, "--resize", 64, "--scales", 33, "--steps", 40, "--students", 2, "--out", model)
        originals = sorted((options.data / "test").glob("*/*.png"))
        images = folder / "images"
        images.mkdir()
        original = {}
        for index in range(options.images):
            path = images / f"{index:06}.png"
            source = originals[index % len(originals)]
            path.symlink_to(source.resolve())
            original[str(path)] = source

        samples, start = [], time.monotonic()
        process = subprocess.Popen([options.program, "inspect", model, images], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        watch(process, samples)
        seconds = time.monotonic() - start
        assert process.returncode == 0, "the run failed"
        warm = [sample for sample in samples if sample[0] - start > WARM * seconds]
        middle = len(warm) // 2
        first, last = (statistics.median(sample[1] for sample in part) for part in (warm[:middle], warm[middle:]))
        result = {
            "images": options.images,
            "seconds": round(seconds, 1),
            "peak_mib": round(max(sample[1] for sample in samples), 1),
            "median_mib_first_half": round(first, 1),
            "median_mib_second_half": round(last, 1),
            "most_open_files": max(sample[2] for sample in samples),
        }

        tenth = sorted(images.iterdir())[: max(options.images // 10, 1)]
        of_sources = {}
        for path, score in scores(run("inspect", model, *tenth, "--json")).items():
            of_sources.setdefault(original[path], set()).add(score)
        drifted = [source for source, seen in of_sources.items() if len(seen) > 1]
        result["images_with_other_scores"] = len(drifted)

        apart = 0
        start = time.monotonic()
        for index in range(options.processes):
            source = originals[index % len(originals)]
            [score] = scores(run("inspect", model, source, "--json")).values()
            apart += source in of_sources and score not in of_sources[source]
        result["processes"] = options.processes
        result["seconds_a_process"] = round((time.monotonic() - start) / max(options.processes, 1), 3)
        result["processes_with_other_scores"] = apart
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result) + "\n")
    flat = last <= 1.02 * first + 1
    if drifted or apart or not flat or result["most_open_files"] > 64:
        sys.exit("a promise is broken")


if __name__ == "__main__":
    main()
