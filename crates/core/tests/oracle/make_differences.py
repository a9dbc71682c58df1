"""Writes differences.json: one small data set, and what other conventions make of its figures.

    "$VENV"/bin/python make_differences.py      # as make.py; writes differences.json beside this file

Each reason gives a measure twice: by the conventions of docs/reference/evaluation.md, and by another that tools or papers have
used. The test differences.rs computes both anew and looks for them in the document's table.
"""

import json
import pathlib

import numpy as np
from make import area_to, arrays, auroc, average_precision, au_pro, pooled, pro_curve, regions_of
from scipy.ndimage import binary_dilation, label
from sklearn.metrics import auc, precision_recall_curve

LIMIT = 0.3


def data():
    """Four images of 16x16 with two kinds of defects, scores of two decimals, and one good image with a hot spot."""
    rng = np.random.default_rng(6)
    shapes = [("crack", [(2, 3, 1, 1), (3, 4, 1, 1), (4, 5, 1, 1), (5, 6, 1, 2), (12, 2, 3, 8), (1, 12, 2, 3)])]
    shapes += [("hole", [(0, 0, 3, 3), (9, 9, 6, 6)]), ("hole", [(7, 1, 4, 2), (7, 3, 2, 9), (14, 14, 2, 2)])]
    shapes += [(None, [])]
    images = []
    for number, (defect, boxes) in enumerate(shapes):
        mask = np.zeros((16, 16), bool)
        scores = rng.gamma(2.0, 0.3, size=(16, 16)) * (1 + 0.3 * number)
        for row, column, height, width in boxes:
            mask[row : row + height, column : column + width] = True
            scores[row : row + height, column : column + width] += rng.uniform(0.2, 2.2)
        if defect is None:
            scores[5:7, 11:13] = 4.5
        if number == 1:
            scores[1, 1] = 60
        images.append(
            {
                "width": 16,
                "height": 16,
                "defect": defect,
                "scores": [round(float(s), 2) for s in scores.ravel()],
                "mask": [int(m) for m in mask.ravel()],
            }
        )
    return images


def interpolated(curve, limit=LIMIT):
    return area_to(*curve, limit)


def twenty_thresholds(maps, masks):
    regions, fprs, pros = regions_of(masks), [0.0], [0.0]
    lowest, highest = pooled(maps).min(), pooled(maps).max()
    for step in range(20):
        threshold = np.float32(highest - (highest - lowest) * step / 19)
        called = [m >= threshold for m in maps]
        fprs.append(np.concatenate([c[~k] for c, k in zip(called, masks)]).mean())
        pros.append(np.mean([called[n][region].mean() for n, region in regions]))
    return interpolated((fprs, pros))


def rescaled_axis(maps, masks):
    """Points up to the limit only, their rates divided by the last one's."""
    fprs, pros = map(np.array, pro_curve(maps, masks))
    kept = fprs <= LIMIT
    return auc(fprs[kept] / fprs[kept].max(), pros[kept])


def mean_per_image(maps, masks):
    regions, fprs, pros = regions_of(masks), [0.0], [0.0]
    for threshold in sorted(set(pooled(maps)), reverse=True):
        called = [m >= threshold for m in maps]
        fprs.append(np.concatenate([c[~k] for c, k in zip(called, masks)]).mean())
        images = sorted({n for n, _ in regions})
        of = lambda image: np.mean([called[n][region].mean() for n, region in regions if n == image])
        pros.append(np.mean([of(image) for image in images]))
    return interpolated((fprs, pros))


def four_connected(maps, masks):
    regions = []
    for image, mask in enumerate(masks):
        labels, count = label(mask)
        regions += [(image, labels == n) for n in range(1, count + 1)]
    return au_pro(maps, masks, LIMIT, regions)


def half_size(maps, masks):
    # The mean of each 2x2, rounded to the stored precision; of a mask the upper left pixel.
    means = [m.astype(np.float64).reshape(8, 2, 8, 2).mean(axis=(1, 3)).astype(np.float32) for m in maps]
    return au_pro(means, [k[::2, ::2] for k in masks], LIMIT)


def ties_apart(maps, masks):
    """Every pixel a threshold of its own, equal scores in the order of the files."""
    regions, defect = regions_of(masks), pooled(masks)
    gain = np.zeros(defect.size)
    for image, region in regions:
        where = image * region.size + np.flatnonzero(region)
        gain[where] = 1 / len(where)
    order = np.argsort(-pooled(maps), kind="stable")
    fprs = np.concatenate([[0], np.cumsum(~defect[order])]) / (~defect).sum()
    pros = np.concatenate([[0], np.cumsum(gain[order])]) / len(regions)
    return interpolated((fprs, pros))


def to_levels(maps):
    lowest, highest = pooled(maps).min(), pooled(maps).max()
    scale = np.float64(255) / (np.float64(highest) - np.float64(lowest))
    return [np.floor((m.astype(np.float64) - np.float64(lowest)) * scale + 0.5).astype(np.float32) for m in maps]


def each_by_itself(maps):
    def rescaled(m):
        m = m.astype(np.float64)
        return ((m - m.min()) / (m.max() - m.min())).astype(np.float32)

    return [rescaled(m) for m in maps]


def main():
    images = data()
    maps, masks = arrays(images)
    kinds = [i["defect"] for i in images]
    defective = [n for n, kind in enumerate(kinds) if kind]
    exact = au_pro(maps, masks, LIMIT)
    labels = [kind is not None for kind in kinds]
    soft = [binary_dilation(mask) for mask in masks]
    coarse = [(np.floor(m.astype(np.float64) * 2 + 0.5) / 2).astype(np.float32) for m in maps]
    precision, recall, _ = precision_recall_curve(pooled(masks), pooled(maps))
    of_kinds = []
    for kind in ("crack", "hole"):
        some = [n for n, k in enumerate(kinds) if k in (kind, None)]
        of_kinds.append(au_pro([maps[n] for n in some], [masks[n] for n in some], LIMIT))
    reasons = {
        "thresholds": (exact, twenty_thresholds(maps, masks)),
        "axis": (exact, rescaled_axis(maps, masks)),
        "limit": (exact, au_pro(maps, masks, 1.0)),
        "image mean": (exact, mean_per_image(maps, masks)),
        "type mean": (exact, float(np.mean(of_kinds))),
        "connectivity": (exact, four_connected(maps, masks)),
        "size": (exact, half_size(maps, masks)),
        "good images": (exact, au_pro([maps[n] for n in defective], [masks[n] for n in defective], LIMIT)),
        "ties": (au_pro(coarse, masks, LIMIT), ties_apart(coarse, masks)),
        "levels": (exact, au_pro(to_levels(maps), masks, LIMIT)),
        "normalisation": (exact, au_pro(each_by_itself(maps), masks, LIMIT)),
        "mask threshold": (au_pro(maps, soft, LIMIT), exact),
        "image score": (auroc([m.max() for m in maps], labels), auroc([m.mean(dtype=np.float64) for m in maps], labels)),
        "pixel mean": (
            auroc(pooled(maps), pooled(masks)),
            float(np.mean([auroc(maps[n].ravel(), masks[n].ravel()) for n in defective])),
        ),
        "precision": (average_precision(pooled(maps), pooled(masks)), float(auc(recall, precision))),
    }
    path = pathlib.Path(__file__).with_name("differences.json")
    with path.open("w") as file:
        file.write('{"made_by": "make_differences.py", "images": [\n')
        file.write(",\n".join(json.dumps(i, separators=(",", ":")) for i in images))
        pairs = {name: [float(v) for v in values] for name, values in reasons.items()}
        file.write('\n], "reasons": ' + json.dumps(pairs, indent=1) + "}\n")
    for name, (ours, other) in pairs.items():
        print(f"{name:16} {ours:.4f} {other:.4f}")


if __name__ == "__main__":
    main()
