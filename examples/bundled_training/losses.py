"""What the network is asked to do.

Everything is computed from the tokens that the detectors read by default: the side path of
promptscore, the class token, and the block outputs of patch-kNN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn

from pyimgano_openclip.encoder.features import aggregate
from pyimgano_openclip.encoder.towers import Request, VisionTransformerTower

TAU = 0.07  # temperature of promptscore
DEPTHS = (0.25, 0.5, 0.75)  # of patch-kNN, and one that it may be told to read
WINDOWS = (1, 3)  # of patch-kNN
REQUEST = Request(aligned="vv", stages=4, layers=DEPTHS)
FULL_PATCH = 0.25  # share of a patch's pixels from which it counts as wholly defective
WEIGHTS = {
    "caption": 0.3,
    "image": 1.0,
    "order": 0.3,
    "dense": 2.0,
    "dice": 0.5,
    "top": 0.3,
    "neighbour": 1.0,
}


@dataclass(frozen=True)
class Texts:
    """Compact token numbers.

    Attributes:
        normal: Normal prompts, shape (G, K, L), one set per group.
        anomalous: Anomalous prompts, shape (G, K, L).
        captions: One per picture, shape (G * 4, L).
        same: True where caption j also describes picture i, shape (G * 4, G * 4).
    """

    normal: Tensor
    anomalous: Tensor
    captions: Tensor
    same: Tensor


class Task(nn.Module):
    """A CLIP and what is learned beside it: how far is anomalous.

    Args:
        model: The CLIP under training.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.shift = nn.Parameter(torch.tensor(-8.0))

    def forward(self, images: Tensor, masks: Tensor, texts: Texts) -> dict[str, Tensor]:
        """The parts of the loss, each a scalar.

        Args:
            images: Normalised pixels, shape (G, 2, 2, 3, H, W): instance, then normal or defective.
            masks: Defective share of each pixel of the defective pictures, shape (G, 2, H, W).
            texts: Prompts and captions for these pictures.
        """
        groups = images.shape[0]
        out = VisionTransformerTower(self.model.visual)(images.flatten(0, 2), REQUEST)
        aligned, pooled = out.aligned.float(), out.pooled.float()
        wanted = _patch_targets(masks, aligned.shape[1:3])
        direction = _text_direction(self.model, texts)
        z_image = torch.einsum("gpd,gd->gp", pooled.unflatten(0, (groups, 4)), direction) / TAU
        z_patch = torch.einsum("gprcd,gd->gprc", aligned.unflatten(0, (groups, 4)), direction) / TAU
        z_image, z_patch = z_image.unflatten(1, (2, 2)), z_patch.unflatten(1, (2, 2))
        label = torch.tensor([0.0, 1.0], device=images.device).expand_as(z_image)
        top = z_patch.flatten(3).topk(3).values.mean(-1)
        distance = self.scale * _neighbour_distance(out.features, groups) + self.shift
        return {
            "caption": _captions(self.model, pooled, texts),
            "image": F.binary_cross_entropy_with_logits(z_image, label),
            "order": F.softplus(z_image[..., 0] - z_image[..., 1]).mean(),
            "dense": F.binary_cross_entropy_with_logits(z_patch, wanted),
            "dice": _dice(z_patch[:, :, 1], wanted[:, :, 1]),
            "top": F.binary_cross_entropy_with_logits(top, label),
            "neighbour": F.binary_cross_entropy_with_logits(distance, wanted[:, 1].flatten(2)),
        }


def total(parts: dict[str, Tensor]) -> Tensor:
    """Weighted sum of the parts."""
    return torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum()


def _patch_targets(masks: Tensor, grid: torch.Size) -> Tensor:
    """Targets in [0, 1] of all pictures, shape (G, 2, 2, rows, cols); zero for the normal ones."""
    share = F.adaptive_avg_pool2d(masks, tuple(grid))
    defective = (share / FULL_PATCH).clamp(max=1)
    return torch.stack([torch.zeros_like(defective), defective], dim=2)


def _text_direction(model: nn.Module, texts: Texts) -> Tensor:
    """Anomalous minus normal text vector of each group, shape (G, D), as promptscore makes them."""
    both = torch.stack([texts.normal, texts.anomalous])
    vectors = model.encode_text(both.flatten(0, 2), normalize=True).float()
    mean = vectors.unflatten(0, both.shape[:3]).mean(2)
    normal, anomalous = F.normalize(mean, dim=-1)
    return anomalous - normal


def _captions(model: nn.Module, pooled: Tensor, texts: Texts) -> Tensor:
    """Contrast of pictures and captions in which several captions may be right for a picture."""
    vectors = model.encode_text(texts.captions, normalize=True).float()
    logits = model.logit_scale.exp().clamp(max=100) * pooled @ vectors.T
    losses = []
    for scores in (logits, logits.T):
        right = scores.masked_fill(~texts.same, -torch.inf).logsumexp(1)
        losses.append((scores.logsumexp(1) - right).mean())
    return (losses[0] + losses[1]) / 2


def _dice(logits: Tensor, wanted: Tensor) -> Tensor:
    """1 - Dice overlap of each defective picture, averaged."""
    found, wanted = logits.sigmoid().flatten(2), wanted.flatten(2)
    overlap = 2 * (found * wanted).sum(-1) + 1
    return (1 - overlap / (found.sum(-1) + wanted.sum(-1) + 1)).mean()


def _neighbour_distance(features: list[Tensor], groups: int) -> Tensor:
    """Patch-kNN with a bank of one picture: the first instance without defect.

    Returns:
        Distances of the second instance's patches, normal and defective, shape (G, 2, patches).
    """
    parts = []
    for layer in features:
        for window in WINDOWS:
            tokens = aggregate(layer, window).flatten(1, 2).unflatten(0, (groups, 2, 2))
            bank, queries = tokens[:, 0, 0], tokens[:, 1].flatten(1, 2)
            # Half precision is enough to find the nearest, and twice as fast.
            near = (queries.bfloat16() @ bank.bfloat16().mT).argmax(-1, keepdim=True)
            found = bank.gather(1, near.expand_as(queries))
            parts.append(1 - (queries * found).sum(-1))
    return torch.stack(parts).mean(0).unflatten(1, (2, -1))
