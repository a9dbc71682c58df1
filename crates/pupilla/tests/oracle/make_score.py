"""Writes score.json: whitening, e, v and the combined score of small random tensors, in NumPy.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy
    "$VENV"/bin/python make_score.py        # writes score.json beside this file

From the definitions of Bergmann et al., CVPR 2020, in f64. Every standard deviation is the
population's (divided by n). Arrays are flat and row-major; shapes are given beside them:

  descriptors        [N, C]        teacher descriptors of "training" pixels
  mean, std          [C]           their mean and standard deviation per component
  teacher            [C, H, W]     y, the teacher's descriptors of an image
  whitened           [C, H, W]     (y - mean) / std
  students           [M, C, H, W]  each student's prediction of the whitened descriptors
  e                  [H, W]        squared error of the ensemble's mean
  v                  [H, W]        predictive variance, summed over components
  validation_e/_v    [K]           e and v of all "validation" pixels
  e_mean, e_std, v_mean, v_std     their means and standard deviations
  score              [H, W]        (e - e_mean) / e_std + (v - v_mean) / v_std
"""

import json
import pathlib

import numpy as np


def flat(array):
    return [float(x) for x in np.asarray(array).ravel()]


def single(array):
    """Values that are floats of 32 bits, so that an f32 implementation starts from the same."""
    return np.asarray(array, np.float32).astype(np.float64)


def case(rng, name, m, c, h, w, spread=1.0, offset=0.0, agree=False):
    scale = np.exp(rng.normal(size=c) * spread)
    descriptors = single(offset + rng.normal(size=(50, c)) * scale)
    mean, std = descriptors.mean(axis=0), descriptors.std(axis=0)
    teacher = single(offset + rng.normal(size=(c, h, w)) * scale[:, None, None])
    whitened = (teacher - mean[:, None, None]) / std[:, None, None]
    noise = rng.normal(size=(m, c, h, w)) * 0.5
    students = single(whitened + (noise[:1].repeat(m, axis=0) if agree else noise))

    e = np.zeros((h, w))
    v = np.zeros((h, w))
    for row in range(h):
        for column in range(w):
            predictions = students[:, :, row, column]
            middle = predictions.mean(axis=0)
            e[row, column] = ((middle - whitened[:, row, column]) ** 2).sum()
            # (1/M) sum |s_i|^2 - |mean|^2, in the form that does not cancel.
            v[row, column] = ((predictions - middle) ** 2).sum(axis=1).mean()
            literal = (predictions**2).sum(axis=1).mean() - (middle**2).sum()
            assert abs(literal - v[row, column]) < 1e-9 * (1 + abs(literal))

    validation_e = single(np.abs(rng.normal(size=40)) * c * 0.1)
    validation_v = single(np.abs(rng.normal(size=40)) * c * 0.2)
    e_mean, e_std = validation_e.mean(), validation_e.std()
    v_mean, v_std = validation_v.mean(), validation_v.std()
    score = (e - e_mean) / e_std + (v - v_mean) / v_std
    return {
        "name": name,
        "shape": {"students": m, "channels": c, "height": h, "width": w},
        "descriptors": flat(descriptors),
        "mean": flat(mean),
        "std": flat(std),
        "teacher": flat(teacher),
        "whitened": flat(whitened),
        "students": flat(students),
        "e": flat(e),
        "v": flat(v),
        "validation_e": flat(validation_e),
        "validation_v": flat(validation_v),
        "e_mean": float(e_mean),
        "e_std": float(e_std),
        "v_mean": float(v_mean),
        "v_std": float(v_std),
        "score": flat(score),
    }


def main():
    rng = np.random.default_rng(5)
    cases = [
        case(rng, "three students", 3, 5, 4, 3),
        case(rng, "one student has no variance", 1, 4, 2, 3),
        case(rng, "students that agree", 3, 4, 2, 2, agree=True),
        case(rng, "components of very different spread", 3, 6, 3, 2, spread=3.0),
        case(rng, "a mean far from zero", 4, 3, 2, 5, offset=100.0),
    ]
    path = pathlib.Path(__file__).with_name("score.json")
    with path.open("w") as file:
        versions = json.dumps({"numpy": np.__version__})
        file.write('{"made_by": "make_score.py", "versions": ' + versions + ', "cases": [\n')
        file.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
