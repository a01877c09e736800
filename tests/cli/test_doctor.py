"""The command `doctor`."""

import json

import pytest

from pyimgano_openclip.cli import main


@pytest.mark.slow
def test_the_doctor_tells_which_classes_pyimgano_will_use(capsys, monkeypatch):
    code = main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["versions"]) >= {"pyimgano", "torch", "numpy", "pyimgano-openclip"}
    assert facts["computing"]["device"]
    assert facts["bundled model"]["checksums"] == "correct"
    assert code == (1 if facts["problems"] else 0)
    monkeypatch.setenv("PYIMGANO_OPENCLIP_AUTOLOAD", "0")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "pyimgano uses its own vision_openclip_patchknn" in text
    assert "pyimgano does not know vision_openclip_mutual" in text
    assert "unset it" in text
