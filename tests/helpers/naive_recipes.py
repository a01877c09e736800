"""WinCLIP, WinCLIP+ and CLIP Surgery written from their formulas: one image, loops, float32.

Nothing of the package is used here; the towers are open_clip's own ``VisionTransformer``.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
TEMPERATURE = 0.07


def pixels_of(image, side):
    """A photograph as the tower reads it: squashed to a square, (1, 3, side, side)."""
    square = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 255
    mean, deviation = torch.tensor(MEAN)[:, None, None], torch.tensor(DEVIATION)[:, None, None]
    return ((values - mean) / deviation)[None]


def text_vector(model, tokenizer, class_name, states, templates, *, scaled):
    """The mean over states x templates, at length 1."""
    total = 0
    for state in states:
        for template in templates:
            sentence = template.format(state.format(class_name))
            (vector,) = model.encode_text(tokenizer([sentence]))
            total = total + (vector / vector.norm() if scaled else vector)
    return total / total.norm()


class Naive:
    """A model of open_clip and two text vectors."""

    def __init__(self, model, tokenizer):
        self.model, self.visual, self.tokenizer = model, model.visual, tokenizer

    def learn_texts(self, class_name, normal, anomalous, templates, *, scaled):
        self.normal, self.anomaly = (
            text_vector(self.model, self.tokenizer, class_name, s, templates, scaled=scaled)
            for s in (normal, anomalous)
        )

    def enter(self, pixels, mode):
        """The tokens that enter the first block."""
        visual = self.visual
        plane = visual.conv1(pixels)[0]
        rows, cols = plane.shape[1:]
        learned, (old, _) = visual.positional_embedding, visual.grid_size
        places = learned[1:].T.reshape(1, -1, old, old)
        if rows != old:
            places = F.interpolate(places, (rows, cols), mode=mode, antialias=mode == "bicubic")
        patches = [
            plane[:, row, col] + places[0, :, row, col]
            for row in range(rows)
            for col in range(cols)
        ]
        tokens = [visual.class_embedding + learned[0], *patches]
        return visual.ln_pre(torch.stack(tokens)), rows

    def blocks(self, tokens):
        for block in self.visual.transformer.resblocks:
            tokens = block(tokens[None])[0]
        return tokens

    def embedding(self, tokens):
        found = self.visual.ln_post(self.blocks(tokens))[0] @ self.visual.proj
        return found / found.norm()

    def probability(self, embedding):
        """Of the anomalous text: softmax over both."""
        normal = torch.exp(embedding @ self.normal / TEMPERATURE)
        anomaly = torch.exp(embedding @ self.anomaly / TEMPERATURE)
        return float(anomaly / (normal + anomaly))


class NaiveWinCLIP(Naive):
    def windows(self, tokens, grid, side):
        """The embedding of each window, by its (top, left)."""
        found = {}
        for top in range(grid - side + 1):
            for left in range(grid - side + 1):
                inside = [
                    1 + row * grid + col
                    for row in range(top, top + side)
                    for col in range(left, left + side)
                ]
                found[top, left] = self.embedding(tokens[[0, *inside]])
        return found

    def look(self, pixels):
        """The grid, the whole image's embedding, windows by side, and patch tokens."""
        tokens, grid = self.enter(pixels, "bicubic")
        patches = self.visual.ln_post(self.blocks(tokens))[1:]
        patches = patches / patches.norm(dim=1, keepdim=True)
        windows = {side: self.windows(tokens, grid, side) for side in (2, 3)}
        places = [(row, col) for row in range(grid) for col in range(grid)]
        windows[1] = dict(zip(places, patches, strict=True))
        return grid, self.embedding(tokens), windows

    @staticmethod
    def spread(values, grid, side):
        """Each patch gets the harmonic mean over the windows that cover it."""
        found = np.empty((grid, grid))
        for row in range(grid):
            for col in range(grid):
                covering = [
                    value
                    for (top, left), value in values.items()
                    if top <= row < top + side and left <= col < left + side
                ]
                # The harmonic mean with a 0 is 0.
                inverse = sum(1 / value for value in covering) if min(covering) else np.inf
                found[row, col] = len(covering) / inverse
        return found

    def zero_shot(self, looked):
        """The score and the patch scores."""
        grid, whole, windows = looked
        score = self.probability(whole)
        inverse = np.full((grid, grid), 1 / score)
        for side in (2, 3):
            values = {place: self.probability(e) for place, e in windows[side].items()}
            inverse += 1 / self.spread(values, grid, side)
        return score, 3 / inverse

    def few_shot(self, looked, references):
        """WinCLIP+: the score and the patch scores."""
        score, patches = self.zero_shot(looked)
        grid, _, windows = looked
        total = np.zeros((grid, grid))
        for side in (1, 2, 3):
            kept = torch.stack([e for reference in references for e in reference[2][side].values()])
            nearest = {
                place: max(0.0, float((1 - kept @ embedding).min())) / 2
                for place, embedding in windows[side].items()
            }
            total += self.spread(nearest, grid, side)
        association = total / 3
        return (score + association.max()) / 2, (patches + association) / 2


class NaiveSurgery(Naive):
    def attend(self, block, tokens, similar):
        """``"qk"`` as the block itself, ``"vv"`` values by their likeness to values; per head."""
        attention, normed = block.attn, block.ln_1(tokens)
        q, k, v = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=1)
        width = q.shape[1] // attention.num_heads
        heads = []
        for start in range(0, q.shape[1], width):
            part = slice(start, start + width)
            a, b = (q[:, part], k[:, part]) if similar == "qk" else (v[:, part], v[:, part])
            heads.append(torch.softmax(a @ b.T / width**0.5, dim=1) @ v[:, part])
        return attention.out_proj(torch.cat(heads, dim=1))

    def score(self, pixels):
        """The score and the patch scores."""
        tokens, grid = self.enter(pixels, "bilinear")
        blocks = list(self.visual.transformer.resblocks)
        new = None
        for number, block in enumerate(blocks):
            if len(blocks) - number <= 6:
                new = (tokens if new is None else new) + self.attend(block, tokens, "vv")
            tokens = tokens + self.attend(block, tokens, "qk")
            tokens = tokens + block.mlp(block.ln_2(tokens))
        both = torch.cat([tokens[:1], new[1:]])
        features = self.visual.ln_post(both) @ self.visual.proj
        features = features / features.norm(dim=1, keepdim=True)
        texts = torch.stack([self.normal, self.anomaly])
        weights = torch.softmax(2 * features[0] @ texts.T, dim=0)
        weights = weights / weights.mean()
        scores = []
        for feature in features:
            products = feature * texts * weights[:, None]
            scores.append(float((products - products.mean(dim=0)).sum(dim=1)[1]))
        return scores[0], np.array(scores[1:]).reshape(grid, grid)
