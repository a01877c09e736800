"""The command `towers`."""

import json

import pytest

from pyimgano_openclip.cli import main


@pytest.mark.slow
def test_towers_tells_of_every_model_what_it_can_do(capsys):
    import open_clip

    assert main(["towers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["towers"]}
    assert sorted(rows) == sorted(open_clip.list_models())
    assert rows["ViT-B-16-plus-240"]["grid"] == [15, 15]
    assert rows["ViT-B-16-SigLIP2"]["grid"] == [14, 14]
    assert (rows["RN50"]["grid"], rows["RN50"]["prompt_grid"]) == ([14, 14], [7, 7])
    assert not rows["MobileCLIP-S1"]["prompts"]
    assert [name for name in ("RN50", "MobileCLIP-S1") if rows[name]["any_shape"]] == ["RN50"]
    assert "cannot be compared with texts" in rows["MobileCLIP-S1"]["why_not"]
    assert all(row["parameters"] > 1e6 for row in rows.values())
    assert main(["towers", "plus-240"]) == 0
    told = capsys.readouterr().out
    assert "laion400m_e31" in told
    assert " 117 M " in told
    assert main(["towers", "MobileCLIP-S1"]) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert row[header.index("any shape") :].startswith("no ")
    assert main(["towers", "bundled"]) == 0
    assert "--model bundled" in capsys.readouterr().out
    assert main(["towers", "no such model"]) == 1
    assert "'no such model'" in capsys.readouterr().err


@pytest.mark.slow
def test_only_models_with_weights_here_are_listed_if_asked_for(capsys, monkeypatch):
    from pyimgano_openclip.cli import towers

    monkeypatch.setattr(towers, "is_cached", lambda _: False)
    assert main(["towers", "--cached"]) == 0
    assert "No weights" in capsys.readouterr().out
    only = {"hf_hub": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"}
    monkeypatch.setattr(towers, "is_cached", lambda known: known["hf_hub"] == only["hf_hub"])
    assert main(["towers", "--cached", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)["towers"]}
    assert names == {"ViT-B-32"}


@pytest.mark.slow
def test_weights_in_the_caches_of_open_clip_are_seen(tmp_path, monkeypatch):
    from huggingface_hub import constants

    from pyimgano_openclip.cli import towers

    monkeypatch.setattr(towers, "URL_CACHE", str(tmp_path))
    plain = {"url": "https://example.org/weights/ViT-B-32.pt", "hf_hub": ""}
    assert not towers.is_cached(plain)
    (tmp_path / "ViT-B-32.pt").touch()
    assert towers.is_cached(plain)

    snapshot = tmp_path / "hub/models--org--repo/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = {"url": "", "hf_hub": "org/repo/model.bin"}
    assert not towers.is_cached(hub)
    (snapshot / "model.safetensors").touch()
    assert towers.is_cached(hub)
