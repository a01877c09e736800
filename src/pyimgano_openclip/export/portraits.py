"""The distance of images to the training images as a whole, as a torch module to be traced."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Floats
from ..bank.copies import AT_ONCE, signed_sums
from ..bank.whole import LENGTH, Whole, quarters
from ..images.areas import Inside, around


class PortraitDistance(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """From feature tokens to :meth:`~..bank.whole.Whole.distance`.

    Args:
        whole: The training images as a whole.
        inside: Patches that are looked at, shape (rows, cols); None for all.
    """

    def __init__(self, whole: Whole, inside: Inside | None = None) -> None:
        super().__init__()
        self._inside = inside
        known = np.stack([one.sketches for one in whole.portraits], axis=1).astype(np.float64)
        # Lengths of what is centred lose no digits where images hardly differ.
        centre, reach = known.mean(axis=1, keepdims=True), whole.reach[:, None, None]
        known = (known - centre) / reach
        numbers = {
            "centre": centre,
            "shrink": 1 / reach,
            "known": known.transpose(0, 2, 1),
            "lengths": np.square(known).sum(axis=2)[:, None],
        }
        for name, value in numbers.items():
            array = np.ascontiguousarray(value, dtype=np.float32)
            self.register_buffer(name, torch.from_numpy(array))

    def forward(self, tokens: Tensor) -> Tensor:
        """Distances of images, shape (B,), by their tokens (B, rows, cols, D)."""
        own = (_sketches(tokens, self._inside).transpose(0, 1) - self.centre) * self.shrink
        lengths = own.square().sum(dim=2, keepdim=True) + self.lengths
        squared = (lengths - 2 * (own @ self.known)).clamp(min=0)
        return squared.amin(dim=2).sqrt().amax(dim=0)


def _sketches(tokens: Tensor, inside: Inside | None) -> Tensor:
    """The sketches of :func:`~..bank.whole.portrait`, shape (B, 2, 192)."""
    rows, cols, width = tokens.shape[1:]
    inside = np.ones((rows, cols), bool) if inside is None else inside
    flat = tokens.flatten(1, 2)
    means = torch.from_numpy(_shares(inside)) @ flat
    looked = flat if inside.all() else flat[:, torch.from_numpy(np.flatnonzero(inside))]
    spread = (looked - means[:, :1]).square().mean(dim=1, keepdim=True).sqrt()
    described = torch.cat([means, spread], dim=1)
    signs = torch.from_numpy(_signs(5 * width))
    first = described[:, [0, 5]].flatten(1) @ signs[: 2 * width]
    second = described[:, 1:].flatten(1) @ signs
    return torch.stack([first, second], dim=1).half().float()  # rounded as those that are known


def _shares(inside: Inside) -> Floats:
    """What each patch adds to the mean of all and to half of that of each quarter: (5, P)."""
    places = np.where(inside, np.arange(inside.size).reshape(inside.shape), -1)[around(inside)]
    shares = np.zeros((5, inside.size), dtype=np.float32)
    shares[0, places[places >= 0]] = 1 / np.count_nonzero(inside)
    for share, quarter in zip(shares[1:], quarters(places), strict=True):
        looked = quarter[quarter >= 0]
        share[looked] = 0.5 / max(1, looked.size)
    return shares


def _signs(count: int) -> Floats:
    """The matrix by which :func:`~..bank.copies.signed_sums` multiplies, shape (count, 192)."""
    places = np.arange(count)
    parts = [
        signed_sums((places // AT_ONCE == part).astype(np.float32), AT_ONCE)
        for part in range(-(-count // AT_ONCE))
    ]
    matrix = np.zeros((count, LENGTH), dtype=np.float32)
    matrix[places, places % AT_ONCE % LENGTH] = np.concatenate(parts)[:count]
    return matrix
