"""Make the bundled model: data, training, evaluation, weights and model card.

    python examples/train_bundled.py                # all of it; hours on two CPU cores
    python examples/train_bundled.py --device cuda
    python examples/train_bundled.py --evaluate     # only measure the weights that are there
    python examples/train_bundled.py --quick --out /tmp/tiny --work /tmp/tiny-work

Training needs torch 2.9 or newer, for the optimiser Muon. An interrupted run goes on from its last
checkpoint. The pictures and the checkpoint are kept in --work (3 GB); the weights and the card
replace those in --out. On a CPU shared with others set OMP_WAIT_POLICY=PASSIVE, since waiting
threads otherwise take the time of working ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bundled_training import network
from bundled_training.card import table, write_card
from bundled_training.data import TrainingSet
from bundled_training.evaluate import Scale, measure, measure_random, seconds
from bundled_training.trainer import Recipe, Trainer

BUNDLED = Path(__file__).parent.parent / "src" / "pyimgano_openclip" / "bundled"
CARD = "MODEL_CARD.md"
QUICK = Recipe(steps=4, groups=2, count=8, warmup=1, cooldown=1, restart=2)
QUICK_SCALE = Scale(
    seeds=(0,), families=("leather", "gear"), seen=("nut",), products=1, photographs=0
)


def main(arguments: list[str] | None = None) -> None:
    """Train if need be, measure, and write everything down."""
    options = _parse(arguments)
    recipe = QUICK if options.quick else Recipe(seed=options.seed)
    if not options.evaluate:
        train(recipe, options.work, options.out, options.device, options.workers)
    measured = QUICK_SCALE if options.quick else Scale()
    trained = measure(options.out, measured, options.device)
    random = measure_random(measured, options.device)
    print("\n".join(table(trained, random)))
    card = write_card(recipe, trained, random, seconds(options.out))
    (options.out / CARD).write_text(card, encoding="utf-8")


def train(recipe: Recipe, work: Path, out: Path, device: str, workers: int) -> None:
    """Train, or go on from the last checkpoint, and write the weights to `out`."""
    data = TrainingSet(work, recipe.count, recipe.seed, workers)
    trainer = Trainer(recipe, data, torch.device(device))
    checkpoint = work / f"checkpoint-{recipe.seed}-{recipe.steps}.pt"
    if checkpoint.is_file():
        trainer.resume(checkpoint)
    trainer.run(recipe.steps, checkpoint)
    network.save(out, trainer.averaged, trainer.vocabulary)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works")
    parser.add_argument("--evaluate", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of weights and card")
    parser.add_argument("--work", type=Path, default=Path("bundled-work"), help="scratch folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
