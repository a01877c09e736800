"""The training loop: deterministic under its seed, resumable, on a CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from . import losses, network
from .captions import Vocabulary, Writer
from .data import Batch, TrainingSet
from .losses import Task, Texts

PROMPTS = 3  # prompts on each side of a group
RESTART = 0.6  # of the peak learning rates


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        steps: Optimiser steps.
        groups: Products in a batch; each gives four pictures.
        count: Groups in the training set.
        muon_rate: Peak learning rate of Muon, for the matrices of the blocks.
        adam_rate: Peak learning rate of AdamW, for all else.
        decay: Weight decay of both.
        average: Decay of the moving average of the weights, which is what is kept.
        warmup: Steps over which the learning rates rise, to stay at their peak.
        cooldown: Steps over which they then fall to zero.
        restart: Steps at the end over which they fall to zero once more, from RESTART of their peak
            (warm restart; Loshchilov and Hutter, "SGDR", ICLR 2017).
        seed: Seed of data, order, texts and start.
    """

    steps: int = 15_500
    groups: int = 8
    count: int = 20_000
    muon_rate: float = 0.005
    adam_rate: float = 1e-3
    decay: float = 0.02
    average: float = 0.998
    warmup: int = 100
    cooldown: int = 5000
    restart: int = 3500
    seed: int = 0

    @property
    def turn(self) -> int:
        """The step at which the learning rates have fallen to zero for the first time."""
        return self.steps - self.restart

    def rate(self, step: int) -> float:
        """The learning rates of a step, as a share of their peak."""
        if step >= self.turn:
            return RESTART * (self.steps - step) / self.restart
        return min((step + 1) / self.warmup, (self.turn - step) / self.cooldown, 1.0)


class Trainer:
    """Network, optimisers and their moving average.

    Args:
        recipe: What to do.
        data: The training set.
        device: Where to compute.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, device: torch.device) -> None:
        self.recipe, self.data, self.device = recipe, data, device
        self.vocabulary = Vocabulary()
        model = network.build(self.vocabulary, recipe.seed)
        first = [data.batch(step, recipe.groups).images for step in range(min(32, recipe.steps))]
        network.whiten(model, np.concatenate(first).reshape(-1, *first[0].shape[3:]))
        self.task = Task(model).to(device).train()
        self.averaged = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.optimisers = _optimisers(self.task, recipe)
        self.step = 0

    def run(self, until: int, checkpoint: Path | None, *, every: int = 250) -> None:
        """Train to step `until`, saving to `checkpoint` and reporting on the way."""
        started, first = time.perf_counter(), self.step
        seen: dict[str, float] = {}
        while self.step < until:
            parts = self._advance(self.data.batch(self.step, self.recipe.groups))
            for name, value in parts.items():
                seen[name] = seen.get(name, value) * 0.98 + value * 0.02
            if self.step % every == 0 or self.step == until:
                pace = (time.perf_counter() - started) / (self.step - first)
                shown = " ".join(f"{name} {value:.3f}" for name, value in seen.items())
                print(f"step {self.step}/{self.recipe.steps} {pace:.3f} s/step {shown}", flush=True)
                if checkpoint is not None:
                    self.save(checkpoint)

    def _advance(self, batch: Batch) -> dict[str, float]:
        self._set_rates()
        images = network.normalise(torch.from_numpy(batch.images).to(self.device))
        masks = torch.from_numpy(batch.masks).to(self.device)
        texts = self._texts(batch)
        half = {k: _half(v) for k, v in self.task.named_parameters()}
        with plain_attention():
            parts = functional_call(self.task, half, (images.bfloat16(), masks, texts))
            losses.total(parts).backward()
        nn.utils.clip_grad_norm_(self.task.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self._average()
        return {name: float(value.detach()) for name, value in parts.items()}

    def _set_rates(self) -> None:
        factor = self.recipe.rate(self.step)
        rates = (self.recipe.muon_rate, self.recipe.adam_rate)
        for optimiser, rate in zip(self.optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.recipe.average, self.step / (self.step + 10))
        for name, value in self.task.model.state_dict().items():
            self.averaged[name].lerp_(value, 1 - keep)

    def _texts(self, batch: Batch) -> Texts:
        writer = Writer(np.random.default_rng([self.recipe.seed, 3, self.step]))
        sides = [writer.sides(group.family, PROMPTS) for group in batch.groups]
        shown = [
            (g.family, d) for g in batch.groups for defect in g.defects for d in (None, defect)
        ]
        captions = [writer.caption(family, defect) for family, defect in shown]
        normal = [text for side, _ in sides for text in side]
        anomalous = [text for _, side in sides for text in side]
        ids = self.vocabulary.encode([*normal, *anomalous, *captions]).to(self.device)
        split = len(normal)
        same = [[left == right for right in shown] for left in shown]
        return Texts(
            ids[:split].unflatten(0, (-1, PROMPTS)),
            ids[split : 2 * split].unflatten(0, (-1, PROMPTS)),
            ids[2 * split :],
            torch.tensor(same, device=self.device),
        )

    def save(self, path: Path) -> None:
        """Write all that is needed to go on. Batches and texts follow from the step's number."""
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "task": self.task.state_dict(),
            "averaged": self.averaged,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, also of another length, if neither had begun to cool down.

        Raises:
            ValueError: If it belongs to another recipe.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        ours, theirs = self.recipe, Recipe(**state["recipe"])
        hot = all(state["step"] <= recipe.turn - recipe.cooldown for recipe in (ours, theirs))
        length = {name: getattr(theirs, name) for name in ("steps", "cooldown", "restart")}
        if theirs != (replace(ours, **length) if hot else ours):
            raise ValueError(
                f"{path.name} belongs to {theirs}, not to {ours}. Remove it, or use its settings."
            )
        self.task.load_state_dict(state["task"])
        self.averaged = state["averaged"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = state["step"]


def _optimisers(task: Task, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices, others = [], []
    for name, parameter in task.named_parameters():
        in_block = "resblocks" in name and parameter.ndim == 2
        (matrices if in_block else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=recipe.decay),
        torch.optim.AdamW(
            others, lr=recipe.adam_rate, weight_decay=recipe.decay, betas=(0.9, 0.98)
        ),
    ]


def _half(parameter: Tensor) -> Tensor:
    """Weights in bfloat16, for half the time of a step; single numbers stay exact."""
    return parameter if parameter.ndim == 0 else parameter.bfloat16()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Replace torch's fused attention by its definition.

    On CPUs the fused kernel takes two to four times as long, forward and backward, at 145 tokens.
    """

    def attention(
        q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, *_: object
    ) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if attn_mask is not None:
            scores = scores + attn_mask.to(scores.dtype)
        return scores.softmax(-1) @ v

    with mock.patch.object(functional, "scaled_dot_product_attention", attention):
        yield
