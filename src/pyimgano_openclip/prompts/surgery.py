"""CLIP Surgery as published (Li et al., 2023; code: xmed-lab/CLIP_Surgery), on two texts.

Its side path is in ``encoder/towers/side_path.py``; here are its templates and its similarity with
redundant features removed. It asks for no states: the texts are an intact and a damaged object. Its
code stretches each similarity map over [0, 1] by the image's own minimum and maximum to show it.
That would give a normal image hot spots, so scores are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Floats
from ..encoder.tokens import PatchTokens
from ..maps.scores import ImageScores
from .scorer import PromptScorer

LAST_BLOCKS = 6  # with a side path
SHARPNESS = 2.0  # of the softmax over the texts that weighs them
NORMAL_STATES = ("{}",)
ANOMALOUS_STATES = ("damaged {}",)
# The 80 templates that CLIP uses for ImageNet (Radford et al., 2021), and five of scenes.
TEMPLATES = (
    "a bad photo of a {}.",
    "a bad photo of the {}.",
    "a black and white photo of a {}.",
    "a black and white photo of the {}.",
    "a blurry photo of a {}.",
    "a blurry photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a cartoon {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a cropped photo of a {}.",
    "a cropped photo of the {}.",
    "a dark photo of a {}.",
    "a dark photo of the {}.",
    "a doodle of a {}.",
    "a doodle of the {}.",
    "a drawing of a {}.",
    "a drawing of the {}.",
    "a embroidered {}.",
    "a good photo of a {}.",
    "a good photo of the {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a low resolution photo of a {}.",
    "a low resolution photo of the {}.",
    "a origami {}.",
    "a painting of a {}.",
    "a painting of the {}.",
    "a photo of a clean {}.",
    "a photo of a cool {}.",
    "a photo of a dirty {}.",
    "a photo of a hard to see {}.",
    "a photo of a large {}.",
    "a photo of a nice {}.",
    "a photo of a small {}.",
    "a photo of a weird {}.",
    "a photo of a {}.",
    "a photo of many {}.",
    "a photo of my {}.",
    "a photo of one {}.",
    "a photo of the clean {}.",
    "a photo of the cool {}.",
    "a photo of the dirty {}.",
    "a photo of the hard to see {}.",
    "a photo of the large {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "a photo of the {}.",
    "a pixelated photo of a {}.",
    "a pixelated photo of the {}.",
    "a plastic {}.",
    "a plushie {}.",
    "a rendering of a {}.",
    "a rendering of the {}.",
    "a rendition of a {}.",
    "a rendition of the {}.",
    "a sculpture of a {}.",
    "a sculpture of the {}.",
    "a sketch of a {}.",
    "a sketch of the {}.",
    "a tattoo of a {}.",
    "a tattoo of the {}.",
    "a toy {}.",
    "a {} in a video game.",
    "art of a {}.",
    "art of the {}.",
    "graffiti of a {}.",
    "graffiti of the {}.",
    "itap of a {}.",
    "itap of my {}.",
    "itap of the {}.",
    "the cartoon {}.",
    "the embroidered {}.",
    "the origami {}.",
    "the plastic {}.",
    "the plushie {}.",
    "the toy {}.",
    "the {} in a video game.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is one {} in the scene.",
    "this is the {} in the scene.",
)


@dataclass(frozen=True)
class SurgeryScorer(PromptScorer):
    """Scores by the similarity that is not redundant between both texts."""

    smoothing: ClassVar[float] = 0.0

    def by_text(self, patches: PatchTokens) -> ImageScores:
        """Score patches, and the class token as if it were one."""
        whole = self._whole(patches)
        weights = self._weights(whole)
        image = float(self._surgery(whole, weights))
        return self._result(self._surgery(patches.tokens, weights), image, patches.size)

    def _weights(self, whole: Floats) -> tuple[float, float]:
        """Weights of the normal and the anomalous text, of mean 1: softmax by the class token."""
        cosines = np.array([whole @ self.text.normal, whole @ self.text.anomaly])
        powers = np.exp(SHARPNESS * (cosines - cosines.max()))
        normal, anomaly = powers / powers.mean()
        return float(normal), float(anomaly)

    def _surgery(self, tokens: Floats, weights: tuple[float, float]) -> Floats:
        """The anomalous similarity less the mean of both, which is what the texts share."""
        normal, anomaly = weights
        similar = anomaly * (tokens @ self.text.anomaly)
        shared = (similar + normal * (tokens @ self.text.normal)) / 2
        return np.asarray(similar - shared, dtype=np.float32)
