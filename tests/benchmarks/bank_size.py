"""What the limit of the memory bank costs: image AUROC, false alarms and the time of `fit`.

    python tests/benchmarks/bank_size.py --sets "elpv mono" "elpv poly" gear

Bundled tower, one seed; false alarms in percent where 10 are asked.
"""

from __future__ import annotations

import argparse
import time

from image_sets import SETS
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPPatchKNN

LIMITS = (10_000, 5_000, 3_000)  # patches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["elpv mono", "elpv poly", "gear"])
    options = parser.parse_args()
    print(f"{'':20}{'images':>8}{'limit':>8}{'AUROC':>8}{'flagged':>9}{'fit':>8}")
    for name in options.sets:
        images = SETS[name](0)
        for limit in LIMITS:
            detector = VisionOpenCLIPPatchKNN(
                openclip_model_name="bundled", openclip_pretrained=None, max_patches=limit
            )
            start = time.perf_counter()
            detector.fit(images.train)
            seconds = time.perf_counter() - start
            scores = detector.decision_function(images.test)
            flagged = 100 * (scores[~images.defective] > detector.threshold_).mean()
            found = 100 * roc_auc_score(images.defective, scores)
            counts = f"{name:20}{len(images.train):8}{limit:8}"
            print(f"{counts}{found:8.1f}{flagged:9.1f}{seconds:7.1f}s", flush=True)


if __name__ == "__main__":
    main()
