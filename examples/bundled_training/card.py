"""The model card, written from the figures."""

from __future__ import annotations

from statistics import mean, stdev
from textwrap import fill

from pyimgano_openclip.samples import DEFECTS, HELD_OUT_DEFECTS, HELD_OUT_FAMILIES, OBJECTS

from . import network
from .captions import Vocabulary
from .data import PAIRS, TRAINING_FAMILIES
from .evaluate import Figures
from .trainer import RESTART, Recipe

TEMPLATE = """\
# Model card: the bundled CLIP of pyimgano-openclip

A genuine but very small open_clip model ({parameters:.2f} million trained parameters), made for
demonstration, tests and first steps without a network. `openclip_model_name="bundled"` selects it
in all detectors. It knows generated images of a few dozen products and a vocabulary of {words}
tokens. **It does not replace a pretrained CLIP**: for real inspection choose a real tower.

## Figures

AUROC in percent, mean ± standard deviation over {seeds} evaluation seeds, measured through the
detectors with their defaults. A seed decides products, pictures and the random weights.

    python examples/train_bundled.py --evaluate

| | trained | random weights |
|---|---|---|
{rows}

"Zero-shot" and "shot" rows: product families that training has never seen
({held_out_families}), with all {defects} kinds of
defects; two of these ({held_out_defects}) were not in training either. Each figure
averages the AUROC of the families, 2 products a family zero-shot and 1 otherwise. "Objects seen in
training" are other products of the {seen} object families that training did see.

These families are held out from the weights only. The recipe and the detectors' defaults were
chosen while looking at them and at solar cells, so the figures are development figures and lean
to the good side; no untouched test set was kept.

"Solar cells": real electroluminescence photographs (elpv-dataset, monocrystalline, certainly intact
against certainly defective). "Textile": photographs with simulated defects (conformal-clip-data).
No photograph was used in training, but the generator draws solar cells too, so their name is known.
Random weights order such images by chance in either direction, the same for all of them.

On one core of a shared cloud CPU, loading takes {loading:.2f} s and an image of 96 x 96 pixels
{scoring:.1f} ms.

## What fails

- **Real images, zero-shot.** See the zero-shot rows of solar cells and textile above: useless for
  work. Generated pictures do not say what a defect on such photographs looks like.
- **Textile, also with normal images.** At chance or below it, at the images' own 250 pixels too:
  a local defect is a few pixels of noise, and the global change lowers the contrast, which brings
  patches nearer to the normal ones, not farther away.
- **Image scores of objects, zero-shot.** The map finds a defect more reliably than the image score
  separates images: at 96 pixels a hole, edge or thread that belongs to the product resembles a
  defect. Objects of families seen in training do better, but not well (see their row): more
  families would help, and so would more pixels and a larger network. A few normal images settle it;
  see the 16-shot rows.
- **Finer maps.** More training no longer improves them: 16-shot pixel AUROC, then read at the three
  depths of training, was 95.5 after 2,950 steps and 95.6 after 8,000, 12,000 and 15,500, while the
  image AUROC rose from 89 to 95. The grid of 12 x 12 patches is coarser than many defects.
- Defects smaller than about two pixels at 96 x 96, and logical ones (a part too many, a wrong
  order), which no training image shows.
- Any use as a general CLIP: retrieval or classification of photographs gives noise.

## Data

{pairs:,} pairs of pictures, without and with a defect, under the same light and noise, from
`pyimgano_openclip.samples`: {families} product families, {training_defects} kinds of defects,
{groups:,} products with {instances} instances each. No photograph, no download, no other model.
The families are

{training_families}.

## Network

open_clip `CLIP`: image tower ViT, 96 x 96 pixels, patch 8, width 128, 4 blocks, 4 heads, MLP ratio
3, class-token pooling; text tower width 64, 2 blocks, context 32; joint space 128. The vocabulary
is CLIP's own (49,408), so that the stock tokenizer works; rows of words that training never says
are zero, which also is what training puts for unknown nouns.

## Recipe

{steps:,} steps of {batch} pictures, bfloat16, seed {seed}; constant learning
rates that fall to zero over {cooldown:,} steps, and once more over the last {restart:,}, from
{again} of the peak (warm restart; Loshchilov and Hutter, 2017); Muon (peak rate
{muon_rate}) for the matrices of the blocks and AdamW ({adam_rate}) for all else, weight decay
{decay}; a moving average of the weights ({average}) is what is kept. The patch embedding starts as
a whitening of real patches. The loss is a weighted sum of

- cross-entropy and Dice of the patch tokens of the value-attention path that promptscore reads,
  against the masks, with its prompts and temperature;
- cross-entropy of the class token and of the highest patches, and the order within a pair;
- cross-entropy of the nearest-neighbour distance of patch-kNN at three depths, of which it reads
  two by default, with one picture as the bank;
- multi-positive InfoNCE between pictures and captions.

Nouns in the prompts are often generic, wrong or unknown, so that other class names work too.

    python examples/train_bundled.py

makes data, weights, figures and this card again. Everything follows from the seed; rounding differs
between machines, versions of torch and numbers of threads. During the first 1,950 steps of the
weights in the package, patch-kNN's part of the loss compared a fourth depth, the last, too.

## Licence

MIT, as the package. Weights and data are the authors' own.
"""


def write_card(
    recipe: Recipe,
    trained: Figures,
    random: Figures,
    seconds: tuple[float, float],
) -> str:
    """The text of the card.

    Args:
        recipe: How the weights were made.
        trained: Figures of the weights, one number per seed.
        random: The same of random weights.
        seconds: To load, and to score an image.
    """
    vocabulary = Vocabulary()
    model = network.build(vocabulary, recipe.seed)
    return TEMPLATE.format(
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        words=len(vocabulary.used),
        seeds=len(next(iter(trained.values()))),
        rows="\n".join(table(trained, random)),
        held_out_families=", ".join(HELD_OUT_FAMILIES),
        held_out_defects=" and ".join(HELD_OUT_DEFECTS),
        defects=len(DEFECTS),
        loading=seconds[0],
        scoring=1000 * seconds[1],
        seen=len(set(TRAINING_FAMILIES) & set(OBJECTS)),
        pairs=recipe.count * PAIRS,
        groups=recipe.count,
        instances=PAIRS,
        families=len(TRAINING_FAMILIES),
        training_families=fill(", ".join(TRAINING_FAMILIES), 100),
        training_defects=len(DEFECTS) - len(HELD_OUT_DEFECTS),
        steps=recipe.steps,
        batch=recipe.groups * PAIRS * 2,
        seed=recipe.seed,
        muon_rate=recipe.muon_rate,
        adam_rate=recipe.adam_rate,
        decay=recipe.decay,
        average=recipe.average,
        cooldown=recipe.cooldown,
        restart=recipe.restart,
        again=RESTART,
    )


def table(trained: Figures, random: Figures) -> list[str]:
    """Rows of a Markdown table, one per figure."""
    return [
        f"| {name} | {_spread(values)} | {_spread(random[name])} |"
        for name, values in trained.items()
    ]


def _spread(values: list[float]) -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"
