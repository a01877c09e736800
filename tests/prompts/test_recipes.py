"""Published methods: equal to their formulas, and what contradicts them."""

import csv
import os
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

from pyimgano_openclip import VisionOpenCLIPPromptScore, load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.encoder import weights
from pyimgano_openclip.prompts import surgery, winclip
from pyimgano_openclip.samples import make_sample

from helpers import naive_recipes
from helpers.detectors import BUNDLED, promptscore
from helpers.towers import photograph

EQUAL = {"rtol": 0, "atol": 1e-5}
NAMES = ("winclip", "clip-surgery")
# The large tower takes minutes for each test.
LARGE = pytest.mark.skipif(
    "PYIMGANO_OPENCLIP_LARGE" not in os.environ, reason="set PYIMGANO_OPENCLIP_LARGE=1"
)
TOWERS = [
    ("bundled", 96),
    ("bundled", 128),
    pytest.param("ViT-B-16-plus-240", 240, marks=LARGE),
    pytest.param("ViT-B-16-plus-240", 208, marks=LARGE),
]


@pytest.fixture(scope="module")
def photographs():
    """Two solar cells, made oblong and coloured so that squashing and channels matter."""
    folder = files("elpv_dataset") / "data" / "images"
    cells = [np.asarray(Image.open(folder / f"cell{number:04}.png")) for number in (1, 2)]
    tint = np.linspace(1, 0.6, 3)
    return [(cell[:200, :, None] * tint).astype(np.uint8) for cell in cells]


def built(tower, side, recipe, **settings):
    detector = VisionOpenCLIPPromptScore(
        **{**BUNDLED, "openclip_model_name": tower, "openclip_pretrained": None},
        class_name="solar cell",
        force_image_size=side,
        recipe=recipe,
        **settings,
    )
    source = detector._embedder._source
    model = weights.load_model(source)
    return detector, model.eval(), weights.get_tokenizer(source)


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "side"), TOWERS)
def test_winclip_is_equal_to_its_formulas(tower, side, photographs):
    detector, model, tokenizer = built(tower, side, "winclip")
    few_shot = clone(detector).set_params(references=photographs[1:])
    with torch.inference_mode():
        naive = naive_recipes.NaiveWinCLIP(model, tokenizer)
        words = (winclip.NORMAL_STATES, winclip.ANOMALOUS_STATES, winclip.TEMPLATES)
        naive.learn_texts("solar cell", *words, scaled=False)
        looked = [naive.look(naive_recipes.pixels_of(image, side)) for image in photographs]
        zero, few = naive.zero_shot(looked[0]), naive.few_shot(looked[0], looked[1:])
        itself = naive.few_shot(looked[1], looked[1:])
    (scored,) = detector.score_iter(photographs[:1], with_tokens=True)
    text = detector._encode_text()
    np.testing.assert_allclose(text.normal, naive.normal.numpy(), **EQUAL)
    np.testing.assert_allclose(text.anomaly, naive.anomaly.numpy(), **EQUAL)
    for window in winclip.WINDOWS:
        expected = torch.stack(list(looked[0][2][window].values())).numpy()
        found = scored.tokens.windows[window].reshape(expected.shape)
        np.testing.assert_allclose(found, expected, **EQUAL)
    for found, (score, patches) in zip(
        [scored, *few_shot.score_iter(photographs)], [zero, few, itself], strict=True
    ):
        np.testing.assert_allclose(found.patches, patches, **EQUAL)
        assert found.image == pytest.approx(score, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "side"), TOWERS)
def test_clip_surgery_is_equal_to_its_formulas(tower, side, photographs):
    detector, model, tokenizer = built(tower, side, "clip-surgery")
    (scored,) = detector.score_iter(photographs[:1])
    with torch.inference_mode():
        naive = naive_recipes.NaiveSurgery(model, tokenizer)
        words = (surgery.NORMAL_STATES, surgery.ANOMALOUS_STATES, surgery.TEMPLATES)
        naive.learn_texts("solar cell", *words, scaled=True)
        score, patches = naive.score(naive_recipes.pixels_of(photographs[0], side))
    np.testing.assert_allclose(detector._encode_text().normal, naive.normal.numpy(), **EQUAL)
    np.testing.assert_allclose(scored.patches, patches, **EQUAL)
    assert scored.image == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("recipe", NAMES)
def test_the_map_is_interpolated_and_not_smoothed(recipe):
    image = photograph(96, 96)
    (scored,) = VisionOpenCLIPPromptScore(**BUNDLED, recipe=recipe).score_iter([image])
    expected = torch.nn.functional.interpolate(
        torch.tensor(scored.patches)[None, None], (96, 96), mode="bilinear"
    )
    np.testing.assert_allclose(scored.anomaly_map(), expected[0, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("windows", (2,)),
        ("attention", "qq"),
        ("stages", 2),
        ("aggregation_method", "mean"),
        ("templates", ["a {}"]),
        ("text_prompts", {"normal": ["a"], "anomaly": ["b"]}),
        ("defects", ["scratch"]),
        ("max_tokens", 100),
        ("force_image_size", (96, 128)),
    ],
)
@pytest.mark.parametrize("recipe", NAMES)
def test_a_contradicting_argument_is_named_with_the_recipe(recipe, setting, value):
    with pytest.raises(ValueError, match=rf"{setting}.* contradicts recipe='{recipe}'"):
        VisionOpenCLIPPromptScore(**BUNDLED, recipe=recipe, **{setting: value})


def test_what_a_recipe_has_itself_may_be_said():
    VisionOpenCLIPPromptScore(**BUNDLED, recipe="winclip", windows=[2, 3], resize="squash")


def test_what_has_no_recipe_is_told():
    with pytest.raises(ValueError, match="recipe='padim' is unknown"):
        VisionOpenCLIPPromptScore(**BUNDLED, recipe="padim")
    with pytest.raises(ValueError, match="embedder contradicts recipe='winclip'"):
        promptscore(text_features_normal=None, text_features_anomaly=None, recipe="winclip")
    with pytest.raises(ValueError, match="references contradicts recipe='clip-surgery'"):
        VisionOpenCLIPPromptScore(**BUNDLED, recipe="clip-surgery", references=[photograph()])
    with pytest.raises(ValueError, match="references need mode='probability'"):
        VisionOpenCLIPPromptScore(**BUNDLED, recipe="clip-surgery").fit(
            [photograph()], use_as_references=True
        )


@pytest.mark.parametrize("recipe", NAMES)
def test_a_recipe_is_saved_and_refused_by_others(recipe, tmp_path):
    images = [photograph(seed=seed) for seed in range(3)]
    detector = VisionOpenCLIPPromptScore(**BUNDLED, recipe=recipe).fit(images)
    path = detector.save_checkpoint(tmp_path / "a.ckpt")
    again = load_detector(path, device="cpu", precision="float32")
    assert again.recipe == recipe
    np.testing.assert_array_equal(
        again.predict_anomaly_map(images), detector.predict_anomaly_map(images)
    )
    with pytest.raises(ValueError, match="recipe"):
        VisionOpenCLIPPromptScore(**BUNDLED).load_checkpoint(path)


def test_references_of_winclip_are_saved_and_find_themselves(tmp_path):
    images = [photograph(seed=seed) for seed in range(3)]
    detector = VisionOpenCLIPPromptScore(**BUNDLED, recipe="winclip", references=images)
    by_text = VisionOpenCLIPPromptScore(**BUNDLED, recipe="winclip").decision_function(images)
    np.testing.assert_allclose(detector.decision_function(images), by_text / 2, atol=1e-6)
    assert detector.label_threshold() > detector.decision_function(images).max()
    path = detector.save_checkpoint(tmp_path / "a.ckpt")
    again = load_detector(path, device="cpu", precision="float32")
    other = [photograph(seed=9)]
    np.testing.assert_array_equal(
        again.predict_anomaly_map(other), detector.predict_anomaly_map(other)
    )


def test_a_single_reference_gives_a_threshold_by_its_own_distant_patches():
    detector = VisionOpenCLIPPromptScore(**BUNDLED, recipe="winclip")
    detector.fit([photograph()], use_as_references=True)
    assert detector.threshold_ > detector.decision_function([photograph()])[0]


@pytest.mark.parametrize("recipe", NAMES)
def test_a_recipe_explains_where_a_defect_is(recipe):
    detector = VisionOpenCLIPPromptScore(**BUNDLED, class_name="leather", recipe=recipe)
    sample = make_sample("leather", seed=2, size=(96, 96), defect="hole")
    (scored,) = detector.score_iter([sample.image], with_tokens=True)
    (hottest,) = detector.explain(scored, threshold=0, limit=1)
    left, top, right, bottom = hottest.box
    assert sample.mask[top:bottom, left:right].any()
    assert hottest.defect is None


@pytest.mark.slow
@pytest.mark.parametrize("recipe", NAMES)
def test_score_and_its_report_work_with_a_recipe(recipe, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    images = [make_sample("leather", seed=n, size=(96, 96)).image for n in range(2)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    out = tmp_path / "out"
    settings = ["--class-name", "leather", "--model", "bundled", "--set", f"recipe={recipe}"]
    settings += ["--set", "precision=float32", "--device", "cpu"]
    assert main(["score", str(folder), *settings, "--out", str(out), "--json"]) == 0
    detector = VisionOpenCLIPPromptScore(**BUNDLED, class_name="leather", recipe=recipe)
    with (out / "scores.csv").open(encoding="utf-8-sig", newline="") as file:
        found = {row["image"]: float(row["score"]) for row in csv.DictReader(file)}
    expected = detector.decision_function(images)
    assert [found["0.png"], found["1.png"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert recipe in (out / "report.html").read_text(encoding="utf-8")
