"""Sentences for a class: ensembles of the package, and what users put in their place."""

import pytest

from pyimgano_openclip.prompts.wording import ANOMALOUS_STATES, NORMAL_STATES, TEMPLATES, Wording


def test_the_default_is_every_state_in_every_template():
    prompts = Wording().prompts_for("screw")
    assert len(prompts.normal) == len(NORMAL_STATES) * len(TEMPLATES) == 154
    assert len(prompts.anomaly) == len(ANOMALOUS_STATES) * len(TEMPLATES) == 132
    assert len(set(prompts.normal)) == 154
    assert "a photo of a flawless screw." in prompts.normal
    assert "a close-up photo of the screw with a defect." in prompts.anomaly
    assert not set(prompts.normal) & set(prompts.anomaly)


def test_states_and_templates_can_be_replaced_one_by_one():
    prompts = Wording(anomalous_states=["{} with a hole"], templates=["x-ray of {}"])
    found = prompts.prompts_for("weld")
    assert found.anomaly == ("x-ray of weld with a hole",)
    assert found.normal[:2] == ("x-ray of weld", "x-ray of intact weld")


def test_whole_sentences_are_taken_as_they_are():
    texts = {"normal": ["ok", "a {}"], "anomaly": ["a broken {class_name}"]}
    prompts = Wording(text_prompts=texts).prompts_for("nut")
    assert prompts.normal == ("ok", "a nut")
    assert prompts.anomaly == ("a broken nut",)


def test_defects_are_named_or_described():
    named = Wording(defects=["scratch", "oil stain"], templates=["{}"]).prompts_for("gear")
    assert list(named.defects) == ["scratch", "oil stain"]
    assert "gear with a scratch" in named.defects["scratch"]
    described = Wording(defects={"scratch": ["scratched {}"]}, templates=["{}", "my {}"])
    assert described.prompts_for("gear").defects == {
        "scratch": ("scratched gear", "my scratched gear")
    }


def test_templates_beside_whole_sentences_are_for_the_defects():
    texts = {"normal": ["ok"], "anomaly": ["broken"]}
    wording = Wording(text_prompts=texts, templates=["my {}"], defects={"dent": ["dented {}"]})
    assert wording.prompts_for("nut").defects == {"dent": ("my dented nut",)}


def test_equal_prompts_have_equal_keys():
    assert Wording().prompts_for("nut").key == Wording().prompts_for("nut").key
    assert Wording().prompts_for("nut").key != Wording().prompts_for("bolt").key
    assert Wording(defects=["dent"]).prompts_for("nut").key != Wording().prompts_for("nut").key


@pytest.mark.parametrize(
    ("wording", "message"),
    [
        ({"normal_states": []}, "normal_states is empty"),
        ({"templates": "a photo of {}"}, "templates must be a list"),
        ({"templates": []}, "templates is empty"),
        ({"templates": ["a photo of {}", "x-ray"]}, "'x-ray' has no {}"),
        ({"templates": ["{a}"]}, "cannot be filled"),
        ({"defects": {"dent", "scratch"}}, "defects must be a list"),
        (
            {"text_prompts": {"normal": ["a"], "anomaly": ["b"]}, "templates": ["my {}"]},
            "templates would change nothing",
        ),
        ({"anomalous_states": ["{", "{}"]}, "cannot be filled"),
        ({"defects": "scratch"}, "defects must be a list"),
        ({"defects": {"scratch": []}}, "scratch.* is empty"),
        ({"text_prompts": {"normal": ["a"]}}, "exactly 'normal' and 'anomaly'"),
        ({"text_prompts": {"normal": ["a {}"], "anomaly": []}}, "empty"),
        ({"text_prompts": {"normal": "a {}", "anomaly": ["a broken {}"]}}, "list of strings"),
        ({"text_prompts": {"normal": ["{colour}"], "anomaly": ["a"]}}, "cannot be filled"),
        (
            {"text_prompts": {"normal": ["a"], "anomaly": ["b"]}, "normal_states": ["c {}"]},
            "cannot be combined with states",
        ),
    ],
)
def test_wording_that_cannot_be_used_is_refused(wording, message):
    with pytest.raises(ValueError, match=message):
        Wording(**wording).prompts_for("nut")
