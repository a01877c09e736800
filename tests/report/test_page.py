"""The report: one file, and what a person does with it in a browser."""

import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.report.page import Section, crop, render_report

from helpers.reports import data_of, finding, rendered, section


def test_the_page_holds_everything_and_asks_for_nothing():
    page = rendered(section())
    wanted = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert all(address.startswith("data:") for address in wanted)
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_images_come_hottest_first_with_what_was_found_in_them():
    images = data_of(rendered(section()))["sections"][0]["images"]
    assert [image["name"] for image in images] == [f"part-{n}.png" for n in range(5, -1, -1)]
    assert images[0]["regions"][0]["defect"] == "scratch"
    assert [found["source"] for found in images[0]["neighbours"]] == ["good-3.png", "gone.png"]
    assert images[0]["neighbours"][1]["normal"] is None


def test_no_name_can_become_markup():
    evil = "</script><img src=x onerror=alert(1)>.png"
    part = Section(evil, 0.5, [finding(evil, 0.1)], unreadable={evil: evil}, settings={evil: evil})
    page = rendered(part, part, title=evil)
    tags = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

    Reader().feed(page)
    assert not [tag for tag, attributes in tags if "onerror" in attributes]
    assert data_of(page)["sections"][0]["images"][0]["name"] == evil


def test_settings_versions_and_unreadable_images_are_told():
    part = Section("Few-shot", 0.5, [], unreadable={"bad.png": "it is cut off"}, settings={"k": 3})
    page = rendered(part)
    for text in ("bad.png", "it is cut off", "1 image could not be read", "torch", "2.1"):
        assert text in page


def test_a_picture_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no picture of part-0\.png"):
        render_report("Screws", [section()], {}, {})


def test_two_thousand_images_stay_one_file_of_moderate_size():
    page = rendered(section(2000))
    assert len(data_of(page)["sections"][0]["images"]) == 2000
    assert len(page) < 8e6  # with tiny pictures; the page itself is small


def test_a_crop_at_the_border_stays_inside_the_image():
    image = Image.new("RGB", (60, 40), (10, 20, 30))
    shown = Image.open(io.BytesIO(crop(image, (50, 30, 60, 40))))
    assert shown.size == (120, 120)
    away = np.abs(np.asarray(shown).astype(int) - (10, 20, 30)).max(axis=2)
    assert (away[50:70, 57:63] > 60).any()  # the outline's left side
    assert np.median(away) < 6
