# ruff: noqa: E402 - torch and open_clip are asked for before they are imported
"""Towers of open_clip with seeded random weights: parity, geometry, nothing left behind."""

import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

import torch.nn.functional as F  # noqa: N812

from pyimgano_openclip.encoder.towers import Request, VisionTransformerTower, make_tower, side_path
from pyimgano_openclip.encoder.towers.side_path import attention_outputs

pytestmark = pytest.mark.slow

VISION = {"layers": 4, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32}
KINDS = {
    "token": {},
    "average": {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
    "attentional": {"attentional_pool": True, "attn_pooler_heads": 4},
    "layer scale": {"ls_init_value": 0.5},
    "quick gelu": {"quick_gelu": True},
}


def clip(kind="token", **vision):
    torch.manual_seed(0)
    settings = {**VISION, **KINDS[kind], **vision}
    quick_gelu = settings.pop("quick_gelu", False)
    text = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(48, settings, text, quick_gelu=quick_gelu)
    return model.eval().requires_grad_(False)


def images(*size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["vv", "qq", "kk", "none"])
def test_the_pooled_embedding_is_encode_image(kind, attention):
    model = clip(kind)
    output = VisionTransformerTower(model.visual)(images(32, 32), Request(aligned=attention))
    expected = model.encode_image(images(32, 32), normalize=True)
    torch.testing.assert_close(output.pooled, expected, atol=1e-6, rtol=1e-5)


def test_the_rebuilt_query_key_attention_is_the_blocks_own():
    block = clip(ls_init_value=0.5).visual.transformer.resblocks[1]
    tokens = torch.randn(2, 17, 64)
    expected = block.ls_1(block.attention(block.ln_1(tokens)))
    torch.testing.assert_close(
        attention_outputs(block, tokens, {"qk": 17})[0], expected, atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["vv", "qq", "kk"])
def test_self_attention_equals_the_formula(kind):
    block = clip().visual.transformer.resblocks[0]
    tokens = torch.randn(1, 5, 64)
    weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    heads = {
        name: F.linear(block.ln_1(tokens), weight, bias)[0].view(5, 4, 16).transpose(0, 1)
        for name, weight, bias in zip("qkv", weights, biases, strict=True)
    }
    asks = heads[kind[0]]
    gathered = (asks @ asks.transpose(1, 2) / 4).softmax(-1) @ heads["v"]
    expected = block.attn.out_proj(gathered.transpose(0, 1).reshape(1, 5, 64))
    torch.testing.assert_close(
        attention_outputs(block, tokens, {kind: 5})[0], expected, atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("count", [1, side_path.TILE, side_path.TILE + 1, 226])
def test_attention_in_bfloat16_is_that_in_float32_up_to_rounding(count):
    block, tokens = clip().visual.transformer.resblocks[1], torch.randn(2, count, 64)
    kinds = {"qk": count, "vv": count}
    exact = torch.stack(attention_outputs(block, tokens, kinds))
    half = attention_outputs(block.to(torch.bfloat16), tokens.bfloat16(), kinds)
    away = (torch.stack(half).float() - exact).abs().mean() / exact.abs().mean()
    assert 0 < away < 0.02


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_aligned_tokens_average_the_projected_stages(stages):
    visual = clip().visual
    output = VisionTransformerTower(visual)(images(32, 32), Request("vv", stages=stages))
    tokens, _, _ = VisionTransformerTower(visual)._embed(images(32, 32))
    sums = []
    for index, block in enumerate(visual.transformer.resblocks):
        attended = attention_outputs(block, tokens, {"vv": 17})[0]
        if index % (4 // stages) == 0:
            sums.append(attended)
        else:
            sums[-1] = sums[-1] + attended
        tokens = block(tokens)
    projected = [F.normalize(visual.ln_post(s[:, 1:]) @ visual.proj, dim=-1) for s in sums]
    expected = torch.stack(projected).mean(0).view(2, 4, 4, 48)
    torch.testing.assert_close(output.aligned, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["token", "average"])
def test_projecting_a_token_as_a_pair_equals_projecting_it_directly(kind):
    visual = clip(kind).visual
    tower, tokens = VisionTransformerTower(visual), torch.randn(2, 6, 64)
    pairs = tokens.reshape(12, 1, 64).expand(-1, 2, -1)
    expected = tower._head(pairs).view(2, 6, 48)
    torch.testing.assert_close(tower._project(tokens), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_tokens_after_the_blocks(kind):
    visual = clip(kind).visual
    output = VisionTransformerTower(visual)(images(32, 32), Request(layers=(0.25, 1.0)))
    found = visual.forward_intermediates(images(32, 32), indices=[0, 3], output_fmt="NCHW")
    for ours, theirs in zip(output.features, found["image_intermediates"], strict=True):
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), theirs, atol=1e-6, rtol=1e-5)
    assert output.pooled is None


@pytest.mark.parametrize(("kind", "read"), [("token", 1), ("average", 17)])
def test_the_last_block_computes_only_what_is_read(kind, read):
    visual = clip(kind).visual
    tower, computed = VisionTransformerTower(visual), []
    visual.transformer.resblocks[-1].mlp.register_forward_hook(
        lambda _, given, __: computed.append(given[0].shape[1])
    )
    for request in (Request("vv"), Request("vv", layers=(1.0,)), Request("vv", final=True)):
        tower(images(32, 32), request)
    assert computed == [read, 17, 17]


def test_what_is_read_of_the_last_block_is_the_same_beside_the_side_path():
    tower = VisionTransformerTower(clip().visual)
    requests = [Request(kind, layers=(0.5, 1.0), final=True) for kind in ("vv", "none")]
    beside, without = (tower(images(32, 32), request) for request in requests)
    for found, expected in zip(beside.features, without.features, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(beside.final, without.final, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(16, 64), (64, 16), (40, 24), (64, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_canvas_equals_a_model_made_for_it(size, dtype):
    model = clip()
    made_for_it = clip(image_size=size)
    state = model.state_dict()
    positions = state["visual.positional_embedding"]
    plane = positions[1:].T.reshape(1, 64, 4, 4)
    grid = (size[0] // 8, size[1] // 8)
    plane = F.interpolate(plane, grid, mode="bicubic", antialias=True, align_corners=False)
    state["visual.positional_embedding"] = torch.cat([positions[:1], plane[0].flatten(1).T])
    made_for_it.load_state_dict(state)
    pixels = images(*size).to(dtype)
    output = VisionTransformerTower(model.visual.to(dtype))(pixels, Request("none"))
    expected = made_for_it.to(dtype).encode_image(pixels, normalize=True)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(output.pooled, expected.float(), atol=tolerance, rtol=tolerance)
    assert output.aligned.shape == (2, *grid, 48)


def test_a_pass_leaves_hooks_weights_and_mode_alone():
    model = clip()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    VisionTransformerTower(model.visual)(images(24, 40), Request("vv", layers=(0.5,)))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_more_stages_than_blocks_are_refused():
    with pytest.raises(ValueError, match="choose from 1 to 4"):
        VisionTransformerTower(clip().visual)(images(32, 32), Request("vv", stages=5))


def test_another_kind_of_tower_is_refused():
    with pytest.raises(ValueError, match="Conv2d"):
        make_tower(torch.nn.Conv2d(3, 8, 3))
