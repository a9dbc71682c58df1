"""Writes residual_metric.json: errors in the metric of good parts' residuals, in NumPy.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy
    "$VENV"/bin/python make_residual_metric.py        # writes residual_metric.json beside this file

From the definitions in src/residual_metric.rs, in f64. Arrays are flat and row-major:

  good               two images: teacher [C, N] and students [M, C, N]
  teacher, students  [C, N], [M, C, N]: the image that is judged
  e, v               [N]: regression error and predictive variance in the metric

With r the residual of the students' mean, S = mean over all good positions of r r^T, and A = S + 0.02 trace(S)/C I:
e = r^T A^-1 r / (1 + |mean|^2 / 2C), v = the same of each student's distance from the mean, averaged over students.
"""

import json
import pathlib

import numpy as np


def flat(array):
    return [float(x) for x in np.asarray(array).ravel()]


def short(array):
    """Floats of 32 bits by the fewest digits that tell them apart."""
    return [float(str(x)) for x in np.asarray(array, np.float32).ravel()]


def single(array):
    return np.asarray(array, np.float32).astype(np.float64)


def image(rng, mixing, m, c, n):
    teacher = single(rng.normal(size=(c, n)))
    students = single(teacher + np.einsum("ij,mjn->min", mixing, rng.normal(size=(m, c, n))))
    return teacher, students


def case(rng, name, m, c, n):
    mixing = rng.normal(size=(c, c)) * np.exp(rng.normal(size=c))[:, None] * 0.3
    good = [image(rng, mixing, m, c, count) for count in (3 * c + 5, 2 * c + 1)]
    residuals = np.concatenate([students.mean(axis=0) - teacher for teacher, students in good], axis=1)
    covariance = residuals @ residuals.T / residuals.shape[1]
    inverse = np.linalg.inv(covariance + 0.02 * np.trace(covariance) / c * np.eye(c))
    teacher, students = image(rng, mixing, m, c, n)
    e, v = np.zeros(n), np.zeros(n)
    for at in range(n):
        middle = students[:, :, at].mean(axis=0)
        spread = 1 + (middle**2).sum() / (2 * c)
        residual = middle - teacher[:, at]
        e[at] = residual @ inverse @ residual / spread
        v[at] = np.mean([(s - middle) @ inverse @ (s - middle) for s in students[:, :, at]]) / spread
    return {
        "name": name,
        "channels": c,
        "good": [{"teacher": short(t), "students": [short(s) for s in ss]} for t, ss in good],
        "teacher": short(teacher),
        "students": [short(s) for s in students],
        "e": flat(e),
        "v": flat(v),
    }


def main():
    rng = np.random.default_rng(20261125)
    cases = [
        case(rng, "one channel, one student", 1, 1, 3),
        case(rng, "three students", 3, 7, 70),
        case(rng, "two students, more than a block", 2, 11, 131),
    ]
    path = pathlib.Path(__file__).with_name("residual_metric.json")
    path.write_text(json.dumps({"numpy": np.__version__, "cases": cases}) + "\n")


main()
