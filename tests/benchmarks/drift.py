"""When normal images have moved away, and how often that is said without a reason.

    python tests/benchmarks/drift.py

For each set: in how many of 100 orders of held-out normal images a window of the last 100 that
passed raises an alarm at any time, looked at after each image; and whether the same images
with 0.8 and 1.2 times the gain raise one, with what differs most, and the share of pairs in which
it is higher.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator

import numpy as np
from image_sets import intact_cells, textile_images

from pyimgano_openclip import VisionOpenCLIPPatchKNN, samples
from pyimgano_openclip.maps.scores import ImageScores

FAMILIES = ("leather", "carpet", "screw", "circuit board")
WINDOW = 100  # images that passed, as in examples/production_line.py
TRAIN, ORDERS, GAINS = 50, 100, (0.8, 1.2)


def sets(count: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    for kind in ("mono", "poly"):
        yield f"solar cells, {kind}", intact_cells(kind, 0)[: TRAIN + count]
    yield "textile", textile_images("nominal", 0, TRAIN + count)
    for family in FAMILIES:
        images = (
            samples.make_sample(family, seed=seed, product=7, size=(192, 192)).image
            for seed in range(TRAIN + count)
        )
        yield family, list(images)


def alarms(detector: VisionOpenCLIPPatchKNN, results: list[ImageScores]) -> int:
    """In how many orders an alarm is raised."""
    raised = 0
    passed = [found for found in results if found.image <= detector.threshold_]
    for order in range(ORDERS):
        window: deque[ImageScores] = deque(maxlen=WINDOW)
        for number in np.random.default_rng(order).permutation(len(passed)).tolist():
            window.append(passed[number])
            found = detector.drift(window)
            if found is not None and found.moved:
                raised += 1
                break
    return raised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="held-out normal images")
    options = parser.parse_args()
    print(f"{'':22}{'held out':>9}{'orders with an alarm':>22}{'gain 0.8':>20}{'gain 1.2':>20}")
    for name, images in sets(options.count):
        detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", openclip_pretrained=None)
        detector.fit(images[:TRAIN])
        test = images[TRAIN:]
        results = list(detector.score_iter(test))
        cells = []
        for gain in GAINS:
            lit = [np.clip(image * gain, 0, 255).astype(np.uint8) for image in test[:WINDOW]]
            found = detector.drift(detector.score_iter(lit))
            told = "few pass"
            if found is not None:
                told = f"{'yes' if found.moved else 'no'} {found.measure} {found.higher:.2f}"
            cells.append(f"{told:>20}")
        print(f"{name:22}{len(test):9}{alarms(detector, results):22}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
