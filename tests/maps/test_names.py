"""Which region gets a name, and when."""

import numpy as np
import pytest

from pyimgano_openclip.maps.boxes import Box
from pyimgano_openclip.maps.names import leading, named
from pyimgano_openclip.maps.regions import Region

REGIONS = [Region(Box(0, 0, 9, 9), 0.9, (4, 4), 81), Region(Box(20, 0, 25, 9), 0.6, (22, 4), 45)]


def test_the_hottest_region_alone_has_the_name_that_leads_clearly():
    first, second = named(REGIONS, ["moss", "ink"], np.log([0.2, 0.8]))
    assert (first.defect, first.probability) == ("ink", pytest.approx(0.8))
    assert first.box == REGIONS[0].box
    assert second == REGIONS[1]


@pytest.mark.parametrize("chances", [[0.3, 0.7], [0.7, 0.15, 0.15], [1.0]])
def test_a_name_is_shown_from_a_lead_of_a_half_on(chances):
    names = ["moss", "ink", "rust"][: len(chances)]
    (first, _) = named(REGIONS, names, np.log(chances))
    assert first.defect == ("moss" if len(chances) == 3 else None)


def test_no_region_has_no_name():
    assert named([], ["moss", "ink"], np.array([0.0, 9.0])) == []


def test_logits_of_any_size_have_probabilities():
    best, probability, lead = leading(np.array([1e4, 0.0, -1e4]))
    assert (best, probability, lead) == (0, 1.0, 1.0)
