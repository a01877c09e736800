# ruff: noqa: E402 - torch is asked for before it is imported
"""Tokens of several depths and neighbourhoods, fused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pyimgano_openclip.encoder.features import Projection, aggregate, fuse_features

pytestmark = pytest.mark.slow


def naive_aggregate(tokens, window):
    centred = tokens - tokens.mean()
    rows, cols, _ = tokens.shape
    reach = window // 2
    out = np.empty_like(tokens)
    for r in range(rows):
        for c in range(cols):
            patch = centred[max(0, r - reach) : r + reach + 1, max(0, c - reach) : c + reach + 1]
            mean = patch.mean(axis=(0, 1))
            out[r, c] = mean / np.linalg.norm(mean)
    return out


@pytest.mark.parametrize("window", [1, 3, 5])
def test_neighbourhoods_equal_a_naive_loop(window):
    tokens = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    expected = np.stack([naive_aggregate(image, window) for image in tokens.numpy()])
    np.testing.assert_allclose(aggregate(tokens, window).numpy(), expected, atol=1e-5)


def test_the_cosine_of_fused_tokens_is_the_mean_of_the_cosines():
    layers = [torch.randn(2, 3, 5, 16), torch.randn(2, 3, 5, 16)]
    fused = fuse_features(layers, (1, 3), None)
    parts = [aggregate(layer, window) for layer in layers for window in (1, 3)]
    expected = sum((part[0] * part[1]).sum(-1) for part in parts) / 4
    torch.testing.assert_close((fused[0] * fused[1]).sum(-1), expected, atol=1e-5, rtol=1e-4)


def cosine_error(kind):
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(2, 8, 8, 1024, generator=generator)]
    exact, short = (fuse_features(layers, (1,), p) for p in (None, Projection(512, kind)))
    assert short.shape[-1] == 512
    cosines = [(tokens[0] * tokens[1]).sum(-1) for tokens in (exact, short)]
    return float((cosines[0] - cosines[1]).square().mean().sqrt())


def test_an_orthonormal_projection_keeps_cosines_better_than_that_of_version_0_1_0():
    assert cosine_error("orthonormal") < 0.8 * cosine_error("gaussian") < 0.05


@pytest.mark.parametrize("width", [400, 1024, 3072])
def test_the_basis_is_orthonormal_at_any_width_and_equal_under_its_seed(width):
    basis, again, other = (Projection(384, seed=seed)(torch.eye(width)) for seed in (1, 1, 2))
    torch.testing.assert_close(basis.T @ basis, torch.eye(384), atol=1e-5, rtol=0)
    torch.testing.assert_close(basis, again, atol=0, rtol=0)
    assert not torch.allclose(basis, other, atol=1e-3)


def test_tokens_that_are_short_enough_are_not_projected():
    tokens = torch.randn(3, 384)
    assert Projection(384)(tokens) is tokens
