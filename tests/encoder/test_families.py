# ruff: noqa: E402 - torch and open_clip are asked for before they are imported
"""Every family of towers that open_clip has, one model each, with seeded random weights."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from pyimgano_openclip import (
    OpenCLIPPatchEmbedder,
    VisionOpenCLIPPatchKNN,
    VisionOpenCLIPPromptScore,
)
from pyimgano_openclip.encoder import weights
from pyimgano_openclip.encoder.towers import Request, make_tower
from pyimgano_openclip.encoder.towers.catalogue import family_of
from pyimgano_openclip.encoder.towers.side_path import attention_outputs, has_side_path
from pyimgano_openclip.encoder.towers.sizes import known_sizes, measure

pytestmark = pytest.mark.slow

# The smallest model of each family.
MODELS = {
    "ViT-S-32-alt": "open_clip ViT",
    "coca_ViT-B-32": "open_clip ViT",
    "ViT-B-32-SigLIP2-256": "timm ViT",
    "MobileCLIP-B": "timm ViT",
    "ViTamin-S": "ViTamin",
    "EVA02-B-16": "EVA-02",
    "PE-Core-T-16-384": "PE-Core",
    "RN50": "CLIP ResNet",
    "convnext_tiny": "ConvNeXt",
    "MobileCLIP-S1": "FastViT",
}
# With this scope the tests of one model follow each other, so that it is loaded once.
EVERY = pytest.mark.parametrize("name", MODELS, scope="module")


@pytest.fixture(scope="module")
def model_of():
    """One model at a time: (model, tower), kept until another is asked for."""
    held = {}

    def load(name):
        if name not in held:
            held.clear()
            model = weights.load_model(weights.find_source(name, None))
            held[name] = model, make_tower(model.visual)
        return held[name]

    return load


def pixels(*size):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


@EVERY
def test_the_config_tells_the_family_and_what_it_can_do(name, model_of):
    family = family_of(open_clip.get_model_config(name))
    _, tower = model_of(name)
    assert family.name == MODELS[name]
    assert family.aligned == tower.aligned
    assert family.side_path == tower.side_path
    assert family.any_canvas == tower.any_canvas


@EVERY
def test_the_pooled_embedding_is_encode_image(name, model_of):
    model, tower = model_of(name)
    if not tower.aligned:
        pytest.skip("this family has no patches beside texts")
    image = pixels(*tower.native_size)
    with torch.inference_mode():
        output = tower(image, Request("auto"))
        expected = model.encode_image(image, normalize=True)
    torch.testing.assert_close(output.pooled, expected, atol=2e-5, rtol=1e-4)
    assert output.aligned.shape[-1] == expected.shape[-1]
    assert torch.isfinite(output.aligned).all()


@EVERY
def test_an_oblong_canvas_gives_an_oblong_grid(name, model_of):
    _, tower = model_of(name)
    if not tower.any_canvas:
        pytest.skip("this family takes its own size only")
    height, width = tower.patch_size
    request = Request("auto" if tower.aligned else None, layers=(0.5, 1.0))
    with torch.inference_mode():
        output = tower(pixels(4 * height, 9 * width), request)
    if tower.aligned:
        assert output.aligned.shape[1:3] == (4, 9)
    for tokens in output.features:
        assert tokens.shape[1] / tokens.shape[2] == pytest.approx(4 / 9)
        assert torch.isfinite(tokens).all()


@EVERY
def test_rebuilt_query_key_attention_is_the_blocks_own(name, model_of):
    _, tower = model_of(name)
    if not tower.side_path:
        pytest.skip("this family has no side path")
    block = tower._blocks[1]
    assert has_side_path(block)
    tokens = torch.randn(1, 10, tower._embed(pixels(*tower.native_size))[0].shape[-1])
    with torch.inference_mode():
        if hasattr(block, "ln_1"):
            expected = block.ls_1(block.attention(block.ln_1(tokens)))
        else:
            expected = block.ls1(block.attn(block.norm1(tokens)))
        found = attention_outputs(block, tokens, {"qk": 10})[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "ViT-B-32-SigLIP2-256"])
def test_a_single_column_of_patches_in_bfloat16(name, model_of):
    """There oneDNN's kernels for the patch embedding read memory that is not the image's."""
    model, tower = model_of(name)
    rounded = make_tower(copy.deepcopy(model.visual).to(torch.bfloat16))
    request = Request(layers=(0.25,))
    for rows in (1, 7, 40):
        images = pixels(rows * tower.patch_size[0], tower.patch_size[1]).repeat(3, 1, 1, 1)
        with torch.inference_mode():
            (exact,) = tower(images, request).features
            (near,) = rounded(images.to(torch.bfloat16), request).features
        assert near.shape[1:3] == (rows, 1)
        assert torch.nn.functional.cosine_similarity(exact, near.float(), dim=-1).min() > 0.999


@pytest.mark.parametrize("name", ["ViT-S-32-alt", "ViT-B-32-SigLIP2-256"])
def test_windows_equal_a_naive_loop(name, model_of):
    _, tower = model_of(name)
    height, width = tower.patch_size
    image = pixels(3 * height, 4 * width)
    with torch.inference_mode():
        found = tower(image, Request("none", windows=(2, 3))).windows
        tokens, grid, _ = tower._embed(image)
        prefix = tower._prefix
        plane = tokens[:, prefix:].unflatten(1, grid)
        for side in (2, 3):
            for top in range(3 - side + 1):
                for left in range(4 - side + 1):
                    inside = plane[:, top : top + side, left : left + side].flatten(1, 2)
                    alone = torch.cat([tokens[:, :prefix], inside], dim=1)
                    for block in tower._blocks:
                        alone = block(alone)
                    expected = torch.nn.functional.normalize(tower._head(alone), dim=-1)
                    torch.testing.assert_close(
                        found[side][:, top, left], expected, atol=1e-5, rtol=1e-4
                    )


def test_the_window_of_the_whole_grid_is_encode_image(model_of):
    model, tower = model_of("ViT-S-32-alt")
    image = pixels(224, 224)
    with torch.inference_mode():
        found = tower(image, Request("none", windows=(7,))).windows[7][:, 0, 0]
        expected = model.encode_image(image, normalize=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["MobileCLIP-S1", "MobileCLIP2-S0", "swin_base_patch4_window7_224"]
)
def test_towers_without_aligned_patches_are_refused_before_any_download(name):
    if name not in open_clip.list_models():
        pytest.skip("this open_clip does not have the model yet")
    with pytest.raises(ValueError, match=r"cannot be compared with texts.*ViT-B-32"):
        VisionOpenCLIPPromptScore(openclip_model_name=name, openclip_pretrained=None)


def test_an_attention_that_the_tower_does_not_have_is_refused_before_any_download():
    with pytest.raises(ValueError, match="'auto' or 'none'"):
        VisionOpenCLIPPromptScore(
            openclip_model_name="EVA02-B-16", openclip_pretrained=None, attention="vv"
        )


def test_every_model_of_open_clip_has_a_family():
    for name in open_clip.list_models():
        assert family_of(open_clip.get_model_config(name)).name


@pytest.mark.parametrize("name", ["RN50", "convnext_tiny", "MobileCLIP-S1"])
def test_patchknn_runs_on_feature_maps(name):
    images = [np.random.default_rng(s).integers(0, 255, (64, 128, 3), np.uint8) for s in range(3)]
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name=name, openclip_pretrained=None, device="cpu"
    )
    detector.fit(images[:2])
    assert detector.get_anomaly_map(images[2]).shape == (64, 128)
    assert np.isfinite(detector.decision_function(images)).all()


def test_float16_weights_are_interpolated_like_float32(model_of):
    _, tower = model_of("ViT-S-32-alt")
    _, grid, _ = tower._embed(pixels(64, 160))
    tower.visual.half()
    positions = tower.visual.positional_embedding
    assert positions.dtype == torch.float16
    from pyimgano_openclip.encoder.towers.base import resample_positions

    plane = resample_positions(positions[1:], (7, 7), grid)
    assert plane.dtype == torch.float16
    tower.visual.float()
    expected = resample_positions(tower.visual.positional_embedding[1:], (7, 7), grid)
    torch.testing.assert_close(plane.float(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("ratio", [(1, 1), (1, 2), (5, 2), (1, 5)])
def test_positions_follow_the_grid_also_where_the_number_of_tokens_is_equal(ratio):
    reader = OpenCLIPPatchEmbedder("ViT-S-32-alt", None, device="cpu")
    image = np.zeros((100 * ratio[0], 100 * ratio[1], 3), np.uint8)
    _, grid, _ = reader.embed(image)
    assert grid[0] / grid[1] == pytest.approx(ratio[0] / ratio[1], rel=0.2)
    from pyimgano_openclip.encoder.towers.base import resample_positions

    plane = torch.arange(64.0)[:, None]
    squeezed = resample_positions(plane, (8, 8), (4, 16))
    assert not torch.equal(squeezed, plane)


@EVERY
def test_the_table_tells_the_size_of_the_tower(name, model_of):
    model, tower = model_of(name)
    known = known_sizes()[name]
    assert known == measure(open_clip.get_model_config(name))
    assert known.parameters == sum(weight.numel() for weight in model.visual.parameters())
    request = Request("auto" if tower.aligned else None, layers=(1.0,))
    with torch.inference_mode():
        output = tower(pixels(*known.input), request)
    assert output.features[0].shape[1:3] == known.feature_grid
    if tower.aligned:
        assert output.aligned.shape[1:3] == known.aligned_grid


def test_references_are_compared_on_the_grid_of_the_aligned_tokens():
    """The feature tokens of a CLIP ResNet are finer than those beside its texts."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), np.uint8)
    text = np.eye(2, 1024, dtype=np.float32)
    detector = VisionOpenCLIPPromptScore(
        openclip_model_name="RN50",
        openclip_pretrained=None,
        device="cpu",
        force_image_size=128,
        references=pixels[:2],
        text_features_normal=text[0],
        text_features_anomaly=text[1],
    )
    detector.fit(pixels[2:])
    assert detector.predict_anomaly_map(pixels).shape == (4, 128, 128)
    assert detector.promise().count == 2
