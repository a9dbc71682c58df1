"""Writes embedding.json: what scikit-learn, SciPy and NumPy say where the detectors on features are concerned.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy scipy scikit-learn
    "$VENV"/bin/python make_embedding.py        # writes embedding.json beside this file

Inputs are floats of 32 bits, flat and row-major, with their number of columns beside them; everything is computed in f64.

  pca        PCA(n_components=0.95): mean, directions (each with its largest number positive), the queries' components
  nearest    NearestNeighbors: distances of the queries to the nearest row, and the mean over the three nearest
  k_means    KMeans from given centres: the centres and inertia it settles at
  svm        OneClassSVM(kernel="rbf"): decision values of rows and queries, gamma="scale" as a number
  coreset    greedy k-centre from a given first row: every distance computed anew
  padim      np.cov over images + 0.01 on the diagonal, scipy's mahalanobis, at each position
  mahalanobis  np.cov over all rows + a share of the mean variance on the diagonal, scipy's mahalanobis of the queries
  smoothing  scipy.ndimage.gaussian_filter
"""

import json
import pathlib

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

COLUMNS = 7
rng = np.random.default_rng(20261124)


def flat(array):
    return [float(x) for x in np.asarray(array).ravel()]


def single(array):
    """Values that are floats of 32 bits, so that an f32 implementation starts from the same."""
    return np.asarray(array, np.float32).astype(np.float64)


mixing = rng.normal(size=(COLUMNS, COLUMNS)) * np.geomspace(2.0, 0.05, COLUMNS)[:, None]
rows = single(rng.normal(size=(90, COLUMNS)) @ mixing + 3.0)
queries = single(rng.normal(size=(25, COLUMNS)) @ mixing * 1.5 + 3.0)


def pca(share):
    fitted = PCA(n_components=share, svd_solver="full").fit(rows)
    directions = fitted.components_
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return {
        "variance": share,
        "mean": flat(fitted.mean_),
        "directions": flat(directions * signs[:, None]),
        "components": flat(fitted.transform(queries) * signs),
    }


def nearest():
    distances, _ = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(rows).kneighbors(queries)
    return {"one": flat(distances[:, 0]), "mean_of_three": flat(distances.mean(axis=1))}


def k_means(first):
    fitted = KMeans(len(first), init=rows[first], n_init=1, max_iter=300, tol=0.0, algorithm="lloyd").fit(rows)
    return {"first": list(first), "centres": flat(fitted.cluster_centers_), "inertia": float(fitted.inertia_)}


def svm(nu, gamma):
    fitted = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma, tol=1e-10).fit(rows)
    return {
        "nu": nu,
        "scale": gamma == "scale",
        "gamma": float(fitted._gamma),
        "offset": float(-fitted.intercept_[0]),
        "rows": flat(fitted.decision_function(rows)),
        "queries": flat(fitted.decision_function(queries)),
    }


def coreset(first, count):
    chosen = [first]
    while len(chosen) < count:
        distances = np.linalg.norm(rows[:, None, :] - rows[None, chosen, :], axis=2).min(axis=1)
        chosen.append(int(distances.argmax()))
    return {"first": first, "chosen": chosen}


def padim(images, positions, chosen):
    features = single(rng.normal(size=(images, positions, COLUMNS)) @ mixing)
    query = single(rng.normal(size=(positions, COLUMNS)) @ mixing * 2.0)
    distances = []
    for position in range(positions):
        here = features[:, position][:, chosen]
        covariance = np.cov(here, rowvar=False) + 0.01 * np.identity(len(chosen))
        distances.append(mahalanobis(query[position, chosen], here.mean(axis=0), np.linalg.inv(covariance)))
    return {
        "images": images,
        "positions": positions,
        "channels": chosen,
        "features": flat(features),
        "query": flat(query),
        "distances": distances,
    }


def global_gaussian(regularisation):
    covariance = np.cov(rows, rowvar=False)
    covariance += regularisation * np.trace(covariance) / COLUMNS * np.identity(COLUMNS)
    inverse, mean = np.linalg.inv(covariance), rows.mean(axis=0)
    return {
        "regularisation": regularisation,
        "distances": [mahalanobis(query, mean, inverse) for query in queries],
    }


def smoothing(width, height, deviation):
    scores = single(rng.normal(size=(height, width)))
    return {
        "width": width,
        "height": height,
        "deviation": deviation,
        "map": flat(scores),
        "smoothed": flat(gaussian_filter(scores, deviation)),
    }


oracle = {
    "columns": COLUMNS,
    "rows": flat(rows),
    "queries": flat(queries),
    "pca": [pca(share) for share in (0.5, 0.95, 0.999)],
    "nearest": nearest(),
    "k_means": [k_means([0, 1, 2]), k_means([5, 17, 40, 41, 60, 61, 88])],
    "svm": [svm(0.5, "scale"), svm(0.1, "scale"), svm(0.3, 0.02), svm(0.03, 0.5)],
    "coreset": [coreset(0, 12), coreset(33, 40)],
    "padim": [padim(9, 4, [0, 2, 3, 6]), padim(3, 2, [1, 2, 4, 5, 6])],
    "mahalanobis": [global_gaussian(share) for share in (0.001, 0.1)],
    "smoothing": [smoothing(11, 7, 1.0), smoothing(40, 33, 4.0), smoothing(3, 5, 4.0), smoothing(1, 1, 2.5)],
}
path = pathlib.Path(__file__).with_name("embedding.json")
path.write_text(json.dumps(oracle) + "\n")
