"""What the prompt scoring is worth: ours, published recipes, and the host's own.

    python tests/benchmarks/zero_shot.py --seeds 3

The same weights (the bundled model) and the same generated images of the families and with the
defects that the model was not trained on. Image AUROC / pixel AUROC, mean over families and the
spread over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from pyimgano.models import create_model, openclip_backend
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pyimgano_openclip import OpenCLIPPatchEmbedder, samples
from pyimgano_openclip.encoder import weights

SIZE = (192, 192)  # pixels
IMAGES = 16  # of each kind, per family and seed


def ours(class_name: str, **settings) -> object:
    return create_model(
        "vision_openclip_promptscore",
        openclip_model_name="bundled",
        class_name=class_name,
        **settings,
    )


def hosts(class_name: str) -> object:
    """The host's detector on the same weights, set up as its own loader would."""
    import open_clip

    source = weights.find_source("bundled", None)
    model = weights.load_model(source)
    _, _, preprocess = open_clip.create_model_and_transforms(source.name)
    embedder = openclip_backend.OpenCLIPViTPatchEmbedder(model=model, preprocess=preprocess)
    embedder._device_t = "cpu"
    # Its own prompts through the model's own tokenizer: it always takes the one of 77 words.
    prompts = openclip_backend.VisionOpenCLIPPromptScore._DEFAULT_TEXT_PROMPTS
    reader = OpenCLIPPatchEmbedder("bundled", None)
    texts = {
        f"text_features_{side}": reader.encode_text(
            [prompt.format(class_name) for prompt in prompts[side]]
        ).mean(axis=0)
        for side in ("normal", "anomaly")
    }
    return openclip_backend.VisionOpenCLIPPromptScore(embedder=embedder, **texts)


CONTESTANTS: dict[str, Callable[[str], object]] = {
    "ours": ours,
    'ours, attention="none"': lambda name: ours(name, attention="none"),
    'ours, resize="squash"': lambda name: ours(name, resize="squash"),
    'recipe="winclip"': lambda name: ours(name, recipe="winclip"),
    'recipe="clip-surgery"': lambda name: ours(name, recipe="clip-surgery"),
    "ours, windows=(2, 3)": lambda name: ours(name, windows=(2, 3)),
    "host": hosts,
}


def images_of(family: str, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clean images, then defective ones, each of a product of its own, and their masks."""
    defects = [d for d in samples.defects_of(family) if d in samples.HELD_OUT_DEFECTS]
    defects = defects or list(samples.defects_of(family))
    images, masks = [], []
    for index in range(2 * IMAGES):
        defect = defects[index % len(defects)] if index >= IMAGES else None
        sample = samples.make_sample(
            family, seed=10_000 * seed + index, product=index % IMAGES, size=SIZE, defect=defect
        )
        images.append(sample.image)
        masks.append(sample.mask)
    return images, masks


def evaluate(build: Callable[[str], object], family: str, seed: int) -> tuple[float, float]:
    images, masks = images_of(family, seed)
    detector = build(family)
    defective = np.array([mask.any() for mask in masks])
    scores = detector.decision_function(images)
    maps = detector.predict_anomaly_map(images)
    pixels = roc_auc_score(np.stack(masks).ravel(), np.asarray(maps).ravel())
    return roc_auc_score(defective, scores), pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    options = parser.parse_args()
    print(f"{'':26}{'surfaces':>22}{'objects':>22}")
    for name in options.contestants:
        cells = []
        for kind in (samples.SURFACES, samples.OBJECTS):
            families = [family for family in samples.HELD_OUT_FAMILIES if family in kind]
            by_seed = [
                np.mean([evaluate(CONTESTANTS[name], f, seed) for f in families], axis=0)
                for seed in tqdm(range(options.seeds), desc=name, leave=False)
            ]
            mean, spread = 100 * np.mean(by_seed, axis=0), 100 * np.std(by_seed, axis=0)
            cells.append(
                f"{mean[0]:5.1f} ±{spread[0]:3.1f} /{mean[1]:5.1f} ±{spread[1]:3.1f}".rjust(22)
            )
        print(f"{name:26}{''.join(cells)}")


if __name__ == "__main__":
    main()
