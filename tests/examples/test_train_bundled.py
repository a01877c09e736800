"""The command that makes the bundled model."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from helpers.places import EXAMPLES

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
if not hasattr(torch.optim, "Muon"):
    pytest.skip("training needs torch 2.9, for its optimiser Muon", allow_module_level=True)


@pytest.fixture(scope="module")
def training():
    """The modules of the example, importable as they are when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import train_bundled

        yield train_bundled
    for name in [n for n in sys.modules if n.startswith(("bundled_training", "train_bundled"))]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def data(training, tmp_path_factory):
    return training.TrainingSet(tmp_path_factory.mktemp("data"), count=8, seed=3, workers=1)


def trainer(training, data):
    recipe = training.Recipe(steps=6, groups=2, count=8, warmup=1, cooldown=2, restart=2, seed=3)
    return training.Trainer(recipe, data, torch.device("cpu"))


def assert_equal_weights(left, right):
    for name, value in left.averaged.items():
        torch.testing.assert_close(right.averaged[name], value, rtol=0, atol=0)


def test_one_command_writes_weights_that_open_clip_loads_and_a_card(training, tmp_path):
    import open_clip

    arguments = ["--quick", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    training.main([*arguments, "--workers", "1", "--device", "cpu"])

    model = open_clip.create_model(f"local-dir:{tmp_path / 'out'}", require_pretrained=True)
    assert model.visual.image_size == (96, 96)
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| zero-shot surfaces image |" in card
    assert "| 16-shot pixel |" in card


def test_the_same_seed_gives_the_same_weights(training, data):
    first, second = trainer(training, data), trainer(training, data)
    first.run(3, None)
    second.run(3, None)

    assert_equal_weights(first, second)


def test_a_resumed_training_ends_where_an_unbroken_one_does(training, data, tmp_path):
    unbroken = trainer(training, data)
    unbroken.run(6, None)
    broken = trainer(training, data)
    broken.run(3, tmp_path / "checkpoint.pt")
    resumed = trainer(training, data)
    resumed.resume(tmp_path / "checkpoint.pt")
    resumed.run(6, None)

    assert resumed.step == 6
    assert_equal_weights(unbroken, resumed)


def test_a_checkpoint_of_another_recipe_is_refused(training, data, tmp_path):
    trainer(training, data).save(tmp_path / "checkpoint.pt")
    other = training.Trainer(training.QUICK, data, torch.device("cpu"))

    with pytest.raises(ValueError, match="belongs to"):
        other.resume(tmp_path / "checkpoint.pt")


def test_training_lowers_the_loss_on_what_it_sees(training, data):
    recipe = training.Recipe(steps=40, groups=2, count=8, warmup=4, cooldown=4, restart=0, seed=3)
    learner = training.Trainer(recipe, data, torch.device("cpu"))
    before = learner._advance(data.batch(0, 2))
    learner.run(30, None)
    after = learner._advance(data.batch(0, 2))

    assert after["dense"] < 0.8 * before["dense"]


def test_the_learning_rates_rise_fall_and_fall_again(training):
    recipe = training.Recipe(steps=10, warmup=2, cooldown=4, restart=3)
    rates = [recipe.rate(step) for step in range(10)]
    np.testing.assert_allclose(rates, [0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0.6, 0.4, 0.2])


def test_training_never_sees_what_is_held_out(training):
    from bundled_training.data import Group
    from pyimgano_openclip.samples import HELD_OUT_DEFECTS, HELD_OUT_FAMILIES

    groups = [Group.numbered(index, seed=0) for index in range(500)]
    assert not {group.family for group in groups} & set(HELD_OUT_FAMILIES)
    assert not {defect for group in groups for defect in group.defects} & set(HELD_OUT_DEFECTS)


def test_the_training_path_is_that_of_the_detectors(training, data):
    from bundled_training import losses
    from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPPromptScore
    from pyimgano_openclip.encoder.towers import Request, make_tower
    from pyimgano_openclip.prompts import scorer

    prompts = VisionOpenCLIPPromptScore(openclip_model_name="bundled")
    features = OpenCLIPPatchEmbedder("bundled")
    tower = make_tower(trainer(training, data).task.model.visual)
    asked = Request(aligned=prompts.attention, stages=prompts.stages)
    assert losses.REQUEST.aligned == tower.attention_for(asked)
    assert losses.REQUEST.stages == asked.stages
    assert set(features.layers) <= set(losses.REQUEST.layers)
    assert set(features.neighbourhoods) <= set(losses.WINDOWS)
    assert losses.TAU == scorer.TEMPERATURE


def test_stock_tokens_mean_the_same_after_widening(training, data, tmp_path):
    import open_clip

    learner = trainer(training, data)
    training.network.save(tmp_path, learner.averaged, learner.vocabulary)
    wide = open_clip.create_model(f"local-dir:{tmp_path}", require_pretrained=True).eval()
    compact = learner.task.model.eval()
    compact.load_state_dict(learner.averaged)
    texts = ["a photo of a damaged screw.", "flawless leather", "an object with a print error"]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    with torch.no_grad():
        expected = compact.encode_text(learner.vocabulary.encode(texts), normalize=True)
        found = wide.encode_text(tokenizer(texts), normalize=True)

    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)  # float16 weights
    assert np.ptp(expected.numpy(), axis=0).max() > 0.01  # the texts do differ
