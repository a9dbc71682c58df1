"""Writes metrics.json: small random cases with every measure from an independent oracle.

    python3 -m venv "$VENV" && "$VENV"/bin/pip install numpy scipy scikit-learn
    "$VENV"/bin/python make.py        # writes metrics.json beside this file

Regions are scipy.ndimage.label with a 3x3 structure of ones; AUROC, average precision and the points among
which the best F1 is sought are scikit-learn's. AU-PRO is
written from its definition (Bergmann et al., CVPR 2020, and MVTec's evaluation): for every distinct
score, all maps are thresholded anew, the overlap of each region and the false-positive rate are
counted, and the curve is integrated by trapezoids with linear interpolation at the limit.
"""

import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

# Small, medium and large regions, as COCO has them.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}


def regions_of(masks):
    """(image, boolean mask) of each 8-connected component, in order."""
    found = []
    for image, mask in enumerate(masks):
        labels, count = label(mask, structure=np.ones((3, 3), dtype=int))
        found += [(image, labels == n) for n in range(1, count + 1)]
    return found


def pro_curve(maps, masks, regions=None):
    """FPR and PRO for every distinct score as threshold, from (0, 0) to (1, 1); of all regions, or of some."""
    regions = regions_of(masks) if regions is None else regions
    negatives = sum(int((~mask).sum()) for mask in masks)
    if not regions or not negatives:
        return None
    fprs, pros = [0.0], [0.0]
    for threshold in sorted({float(s) for m in maps for s in m.ravel()}, reverse=True):
        called = [m >= threshold for m in maps]
        false = sum(int((c & ~mask).sum()) for c, mask in zip(called, masks))
        overlaps = [called[image][region].mean() for image, region in regions]
        fprs.append(false / negatives)
        pros.append(float(np.mean(overlaps)))
    return fprs, pros


def au_pro(maps, masks, limit, regions=None):
    curve = pro_curve(maps, masks, regions)
    return None if curve is None else area_to(*curve, limit)


def area_to(fprs, pros, limit):
    """The area under straight lines from 0 to the limit, divided by the limit."""
    area = 0.0
    for x0, x1, y0, y1 in zip(fprs, fprs[1:], pros, pros[1:]):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def auroc(scores, labels):
    labels = np.asarray(labels, dtype=bool)
    if labels.all() or not labels.any():
        return None
    return float(roc_auc_score(labels, np.asarray(scores, dtype=np.float64)))


def average_precision(scores, labels):
    labels = np.asarray(labels, dtype=bool)
    if labels.all() or not labels.any():
        return None
    return float(average_precision_score(labels, np.asarray(scores, dtype=np.float64)))


def best_f1(scores, labels):
    """The best F1 and the highest threshold that reaches it."""
    labels = np.asarray(labels, dtype=bool)
    if labels.all() or not labels.any():
        return None, None
    precision, recall, thresholds = precision_recall_curve(labels, np.asarray(scores, dtype=np.float64))
    both = np.maximum(precision + recall, 1e-300)
    f1 = (2 * precision * recall / both)[:-1]
    return float(f1.max()), float(thresholds[f1 >= f1.max() - 1e-12].max())


def separation(prefix, scores, labels):
    f1, threshold = best_f1(scores, labels)
    return {
        f"{prefix}_auroc": auroc(scores, labels),
        f"{prefix}_ap": average_precision(scores, labels),
        f"{prefix}_f1": f1,
        f"{prefix}_f1_threshold": threshold,
    }


def arrays(images):
    maps = [np.array(i["scores"], np.float32).reshape(i["height"], i["width"]) for i in images]
    masks = [np.array(i["mask"], bool).reshape(i["height"], i["width"]) for i in images]
    return maps, masks


def pooled(parts):
    return np.concatenate([part.ravel() for part in parts])


def measures(images, limit):
    maps, masks = arrays(images)
    return {
        "au_pro": au_pro(maps, masks, limit),
        "au_pro_05": au_pro(maps, masks, 0.05),
        **separation("pixel", pooled(maps), pooled(masks)),
        **separation("image", [m.max() for m in maps], [i["defect"] is not None for i in images]),
        "regions": len(regions_of(masks)),
    }


def of_size(images, limit, bounds):
    """The measures of the regions of one size: the pixels of other regions are left out."""
    maps, masks = arrays(images)
    regions = [(n, r) for n, r in regions_of(masks) if bounds[0] <= r.sum() < bounds[1]]
    kept = [~mask for mask in masks]
    for image, region in regions:
        kept[image] = kept[image] | region
    scores = np.concatenate([m[k] for m, k in zip(maps, kept)])
    labels = np.concatenate([m[k] for m, k in zip(masks, kept)])
    return {
        "regions": len(regions),
        "au_pro": au_pro(maps, masks, limit, regions),
        "au_pro_05": au_pro(maps, masks, 0.05, regions),
        **separation("pixel", scores, labels),
    }


def case(name, images, limit=0.3):
    kinds = sorted({i["defect"] for i in images if i["defect"]})
    good = [i for i in images if i["defect"] is None]
    expected = measures(images, limit)
    expected["per_defect"] = {}
    for kind in kinds:
        own = [i for i in images if i["defect"] == kind]
        per = measures(own + good, limit)
        per["images"] = len(own)
        expected["per_defect"][kind] = per
    expected["per_region_size"] = {
        size: of_size(images, limit, bounds) for size, bounds in SIZES.items()
    }
    return {"name": name, "fpr_limit": limit, "images": images, "expected": expected}


def image(rng, size, defect, mask, levels=None, signal=1.0):
    height, width = size
    scores = rng.normal(size=size) + signal * mask * rng.uniform(size=size)
    if levels:
        scores = np.round(scores * levels) / levels
    # Few digits keep the file small; they are floats of 32 bits exactly as written.
    scores = [float(f"{s:.4g}") for s in scores.ravel()]
    flat = [int(m) for m in mask.ravel()]
    return {"width": width, "height": height, "defect": defect, "scores": scores, "mask": flat}


def blobs(rng, size, share):
    return rng.uniform(size=size) < share


def drawn(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


def main():
    rng = np.random.default_rng(20)
    none = lambda size: np.zeros(size, bool)
    cases = []
    for n in range(12):
        images = []
        for i in range(int(rng.integers(2, 6))):
            size = tuple(int(s) for s in rng.integers(1, 13, size=2))
            kind = [None, "crack", "hole"][i % 3]
            mask = blobs(rng, size, rng.uniform(0.02, 0.5)) if kind else none(size)
            images.append(image(rng, size, kind, mask, levels=[None, 1, 2, 8][n % 4], signal=3))
        cases.append(case(f"random {n}", images, limit=[0.3, 0.05, 1.0][n % 3]))
    size = (8, 9)
    mask = blobs(rng, size, 0.2)
    cases.append(case("no good image", [image(rng, size, "crack", mask, 2) for _ in range(2)]))
    cases.append(case("good images only", [image(rng, size, None, none(size)) for _ in range(2)]))
    cases.append(case("every pixel defective", [image(rng, size, "crack", ~none(size))]))
    blank = image(rng, size, "crack", none(size))
    good = image(rng, size, None, none(size))
    cases.append(case("a blank mask in a defect folder", [blank, good, image(rng, size, "crack", mask)]))
    flat = image(rng, size, "crack", mask)
    flat["scores"] = [0.5] * len(flat["scores"])
    cases.append(case("one score for all", [flat, {**good, "scores": [0.5] * 72}]))
    zeros = image(rng, size, "crack", mask, 1)
    zeros["scores"] = [-0.0 if n % 2 else 0.0 for n in range(72)]
    cases.append(case("both zeros are equal", [zeros]))
    shapes = {
        "diagonal neighbours": drawn("#....#", ".#..#.", "..##..", ".#..#.", "#....#"),
        "touching and apart": drawn("##.##.", "..#...", "......", "#.#.#.", ".....#"),
        "on every border": drawn("######", "#....#", "#.##.#", "#....#", "######"),
        "no wrap at the row end": drawn(".....#", "#.....", ".....#", "#.....", "......"),
        "single pixels": drawn("#.#.#.", "......", "#.#.#.", "......", "#.#.#."),
    }
    for name, shape in shapes.items():
        for levels in (None, 1):
            images = [image(rng, shape.shape, "crack", shape, levels, signal=2)]
            images.append(image(rng, shape.shape, None, none(shape.shape), levels))
            cases.append(case(f"{name}, {'ties' if levels else 'no ties'}", images))
    # 12 negatives and a limit of 3: a corner exactly there, and ties across it.
    edge = drawn("#............")
    exact = image(rng, edge.shape, "hole", edge)
    for place, rest in enumerate(([9, 8, 7], [9, 8, 5], [9, 5, 5])):
        exact = {**exact, "scores": [5.0, *map(float, rest), 1, 1, 1, 1, 1, 1, 1, 1, 1]}
        cases.append(case(f"the limit at a corner {place}", [exact], limit=0.25))
    # Regions of two sizes: 33x32 pixels, and smaller ones beside them.
    size = (36, 52)
    mask = none(size)
    mask[2:35, 3:35] = True
    mask[5:9, 40:44] = True
    mask[20:22, 45:52] = True
    sizes = [image(rng, size, "crack", mask, levels=2, signal=3)]
    sizes.append(image(rng, (20, 20), None, none((20, 20)), levels=2))
    cases.append(case("two sizes of regions", sizes))
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "sklearn": sklearn.__version__}
    path = pathlib.Path(__file__).with_name("metrics.json")
    with path.open("w") as file:
        file.write('{"made_by": "make.py", "versions": ' + json.dumps(versions) + ', "cases": [\n')
        file.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
