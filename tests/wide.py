"""An embedder whose memory bank takes megabytes."""

import numpy as np


class WideEmbedder:
    """Random tokens that follow from the pixels: 400 an image, of 256 numbers each."""

    def embed(self, image):
        seed = int(np.asarray(image, dtype=np.int64).sum())
        tokens = np.random.default_rng(seed).normal(size=(400, 256))
        return tokens, (20, 20), image.shape[:2]
