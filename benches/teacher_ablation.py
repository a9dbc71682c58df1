#!/usr/bin/env python3
"""The teacher's three losses on and off, as student-teacher AU-PRO: the table of docs/notes/teachers.md.

    cargo build --release
    python3 benches/teacher_ablation.py --images PHOTOGRAPHS --backbone resnet18.safetensors --out DIR \
        --data DIR/weave --data DIR/washer --data magnetic_tile:127 [--scales 33] [--losses k,km] [--zoom 4] [--scoring mahalanobis]

Every teacher has the same windows, steps and optimiser, every class of students too. Results stay in DIR: what is there is not
run again, so that an interrupted run goes on, and the table always shows all that is there. Needs nothing but Python.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Name: weights of Lk, Lm and Lc. The compactness loss is a sum over 16 256 pairs.
LOSSES = {
    "k": (1, 0, 0),
    "m": (0, 1, 0),
    "c": (0, 0, 0.001),
    "km": (1, 1, 0),
    "kc": (1, 0, 0.001),
    "mc": (0, 1, 0.001),
    "kmc": (1, 1, 0.001),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="photographs to train teachers on")
    parser.add_argument("--backbone", required=True, help="weights of ResNet-18")
    parser.add_argument("--data", action="append", required=True, help="a data set, FOLDER or FOLDER:MASK_THRESHOLD")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--scales", default="33", type=lambda text: [int(scale) for scale in text.split(",")])
    parser.add_argument("--losses", default=",".join(LOSSES), type=lambda text: text.split(","))
    parser.add_argument("--teacher-steps", default=300, type=int)
    parser.add_argument("--student-steps", default=300, type=int)
    parser.add_argument("--zoom", type=int, help="enlargement for the pretrained network [default: 4, 2, 1 for p = 17, 33, 65]")
    parser.add_argument("--scoring", default="published", help="how errors are judged; the table is older than `mahalanobis`")
    parser.add_argument("--students", default=2, type=int)
    parser.add_argument("--program", default=ROOT / "target/release/pupilla", type=pathlib.Path)
    return parser.parse_args()


def run(program, *words):
    subprocess.run([program.resolve(), *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def train_teacher(options, scale, losses, teacher):
    distillation, triplet, compactness = LOSSES[losses]
    words = ["--compactness-weight", compactness, "--triplet-weight", triplet]
    if distillation:
        words += ["--backbone", options.backbone, "--distillation-weight", distillation]
        # The table was made before p = 33 had 4.
        words += ["--zoom", options.zoom or {17: 4, 33: 2, 65: 1}[scale]]
    # What would be others without a backbone.
    window = {17: 41, 33: 97, 65: 129}[scale]
    words += ["--optimizer", "muon", "--batch-norm", "true", "--images-per-step", 4, "--window", window]
    words += ["--learning-rate", 0.002, "--steps", options.teacher_steps, "--resume"]
    run(options.program, "teacher", "train", options.images, "--scale", scale, "--out", teacher, *words)


def measure(options, scale, teacher, data, result):
    folder, _, threshold = data.partition(":")
    model = result.with_suffix(".pupilla")
    words = ["--students", options.students, "--steps", options.student_steps, "--scoring", options.scoring]
    run(options.program, "train", folder, "--out", model, "--scales", scale, "--teacher", teacher, *words)
    words = ["--mask-threshold", threshold] if threshold else []
    run(options.program, "eval", model, folder, "--json", result, *words)
    model.unlink()


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    for scale in options.scales:
        for losses in options.losses:
            zoom = f"-zoom{options.zoom}" if options.zoom and LOSSES[losses][0] else ""
            teacher = options.out / f"{losses}-{scale}{zoom}.safetensors"
            if not teacher.exists():
                train_teacher(options, scale, losses, teacher)
            for data in options.data:
                name = pathlib.Path(data.partition(":")[0]).name
                result = options.out / f"{losses}-{scale}{zoom}-{options.scoring}-{name}.json"
                if not result.exists():
                    measure(options, scale, teacher, data, result)
                scores = json.loads(result.read_text())
                cells = [f"p = {scale}", losses + zoom, options.scoring, name]
                cells += [f"{scores[key]:.3f}" for key in ("au_pro", "pixel_auroc", "image_auroc")]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
