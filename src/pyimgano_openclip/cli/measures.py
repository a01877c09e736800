"""How well scores and maps tell anomalous images: metrics of scikit-learn and of the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pyimgano import evaluation
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, roc_curve

from ..arrays import Floats, Scores, Size
from ..images.areas import Inside
from ..maps.regions import hot_pixels

CONFIDENCE = 0.95  # of the intervals
MOST_PIXELS = 2**25  # of all maps together; the host's metrics keep several copies of them
POINTS = 200  # of a curve that is drawn
SHARES = {"recall": 1, "false_alarms": 0}  # of the images with this label, those flagged
LIMITS = (0.3, 0.05)  # false-positive rates up to which AUPRO integrates

Labels = npt.NDArray[np.int64]
Masks = Sequence[Inside | None]
Pixels = npt.NDArray[np.uint8]  # of all images (N, H, W): 1 if anomalous


@dataclass(frozen=True)
class Share:
    """A share of images with its interval of 95 % by Clopper and Pearson (1934).

    Attributes:
        hits: Number of images.
        of: Number of all images, at least 1.
    """

    hits: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper end; at least 95 % of such intervals hold the true share."""
        found = binomtest(self.hits, self.of).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)

    def facts(self) -> dict[str, Any]:
        """The share as JSON values."""
        return {
            "share": self.hits / self.of,
            "interval": self.interval,
            "images": self.hits,
            "of": self.of,
        }


def image_measures(scores: Scores, truth: Labels, threshold: float) -> dict[str, Any]:
    """Measure image scores.

    Args:
        scores: Shape (N,); NaN for unreadable images, which ``recall`` and ``false_alarms`` count
            as flagged, and which the other metrics leave out.
        truth: 1 for anomalous images, 0 for normal ones, shape (N,).
        threshold: Score above which an image is flagged.

    Returns:
        Numbers by name; those that need the images of a kind that is missing are left out.
        ``f1_max_at`` is a threshold that flags by the highest F1.
    """
    flagged, read = ~(scores <= threshold), ~np.isnan(scores)
    shares = {}
    for name, kind in SHARES.items():
        these = truth == kind
        if these.any():
            share = Share(int(flagged[these].sum()), int(these.sum()))
            shares[name] = {**share.facts(), "unreadable": int((these & ~read).sum())}
    return {**_ranking(scores[read], truth[read]), "threshold": threshold, **shares}


def _ranking(scores: Scores, truth: Labels) -> dict[str, float]:
    if not _both(truth):
        return {}
    best, f1 = evaluation.find_optimal_threshold(truth, scores, metric="f1")
    return {
        "auroc": float(evaluation.compute_auroc(truth, scores)),
        "average_precision": float(evaluation.compute_average_precision(truth, scores)),
        "f1_max": float(f1),
        "f1_max_at": _flagging(scores, float(best)),
    }


def _flagging(scores: Scores, lowest: float) -> float:
    """The threshold above which ``lowest`` of the scores and all higher ones are, and no other."""
    below = scores[scores < lowest]
    return float((lowest + below.max()) / 2) if below.size else float(np.nextafter(lowest, -np.inf))


def _both(truth: npt.NDArray[Any]) -> bool:
    return len(np.unique(truth)) == 2


def pixel_measures(
    maps_at: Callable[[Size], Sequence[Floats]], masks: Masks, threshold: float
) -> dict[str, Any]:
    """Measure anomaly maps at the size that all masks are brought to.

    Args:
        maps_at: Gives the map of each image at a size (height, width); NaN where was not looked,
            which counts nowhere but in ``anomalous_outside``.
        masks: For each image the anomalous pixels, shape (H, W); None if there are none.
        threshold: That of regions; see :func:`~..maps.regions.hot_pixels`.

    Returns:
        Numbers by name; those that need pixels of a kind that is missing are left out.
    """
    size = _common_size([mask.shape for mask in masks if mask is not None], len(masks))
    maps = np.stack(maps_at(size))
    truth = np.stack([_resized(mask, size) for mask in masks])
    inside = ~np.isnan(maps)
    found: dict[str, Any] = {"map_size": size, **_outside(truth, inside)}
    seen = truth[inside]
    if not _both(seen):
        return found
    hot = np.stack([hot_pixels(one, threshold) for one in maps])[inside]
    aupro = {f"aupro_{limit}": _aupro(truth, maps, inside, limit) for limit in LIMITS}
    return {
        "pixel_auroc": float(evaluation.compute_pixel_auroc(seen, maps[inside])),
        **aupro,
        "segmentation_f1": float(evaluation.compute_pixel_segf1(seen, hot, threshold=0.5)),
        **found,
    }


def _outside(truth: Pixels, inside: Inside) -> dict[str, float]:
    """The share of the pixels that are looked at, and of the anomalous ones that are not."""
    if inside.all():
        return {}
    looked = {"looked_at": float(inside.mean())}
    missed = np.count_nonzero(truth[~inside])
    return looked | ({"anomalous_outside": missed / np.count_nonzero(truth)} if missed else {})


def _aupro(truth: Pixels, maps: Floats, inside: Inside, limit: float) -> float:
    """AUPRO of the pixels that are looked at.

    The host takes whole maps, of which regions are told. Others than these pixels are normal and
    lowest there, so that they are no false positives below the limit, but make its share smaller.
    """
    lowest = np.float32(maps[inside].min() - 1)
    truth, maps = truth * inside, np.where(inside, maps, lowest)
    normal = truth == 0
    share = np.count_nonzero(normal & inside) / np.count_nonzero(normal)
    return float(evaluation.compute_aupro(truth, maps, integration_limit=limit * share))


def curves(scores: Scores, truth: Labels) -> dict[str, list[tuple[float, float]]]:
    """The curves that are drawn: receiver operating characteristic, precision over recall."""
    read = ~np.isnan(scores)
    if not _both(truth[read]):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        false, true, _ = roc_curve(truth[read], scores[read])
        precision, recall, _ = precision_recall_curve(truth[read], scores[read])
    return {"ROC": _thinned(false, true), "Precision over recall": _thinned(recall, precision)}


def _thinned(x: Floats, y: Floats) -> list[tuple[float, float]]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int))
    return [(float(x[at]), float(y[at])) for at in kept]


def _common_size(sizes: Sequence[tuple[int, ...]], count: int) -> Size:
    """(height, width) of all maps: the median of the masks', or smaller to fit into memory."""
    height, width = (int(side) for side in np.median(np.array(sizes), axis=0))
    shrink = min(1.0, float(np.sqrt(MOST_PIXELS / (height * width * count))))
    return max(1, int(height * shrink)), max(1, int(width * shrink))


def _resized(mask: Inside | None, size: Size) -> Pixels:
    """A mask at another size: pixels of which at least half is anomalous."""
    if mask is None:
        return np.zeros(size, np.uint8)
    share = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.5, np.uint8)
