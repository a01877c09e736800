"""The report: one file, and what a person does with it in a browser."""

import html.parser
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.cli.drawing import fair_side
from pyimgano_openclip.pictures import colour_range, heat_picture, map_to_16_bits
from pyimgano_openclip.report import Finding, Neighbour, Region, Section, crop, render_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
# Without a network Chromium would go on asking for one.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def jpeg(colour=(90, 110, 130)) -> bytes:
    return encoded(Image.new("RGB", (48, 32), colour), "JPEG")


def finding(name: str, score: float, **more) -> Finding:
    found = np.zeros((8, 12), np.float32)
    found[2:4, 5:8] = score
    heat = encoded(heat_picture(found, low=0, high=1), "PNG")
    return Finding(name=name, score=score, size=(320, 480), heat=heat, **more)


def section(count: int = 6, title: str = "Few-shot") -> Section:
    """Images with scores 0, 1/n, 2/n, ...; the best has a named defect and a neighbour."""
    usual = [finding(f"part-{n}.png", n / count) for n in range(count - 1)]
    hottest = finding(
        f"part-{count - 1}.png",
        (count - 1) / count,
        regions=[Region((40, 60, 120, 160), 0.9, "scratch", 0.75), Region((300, 10, 330, 30), 0.6)],
        neighbours=[
            Neighbour(0.5, jpeg(), jpeg(), "good-3.png"),
            Neighbour(0.4, jpeg(), None, "gone.png"),
        ],
    )
    training = np.linspace(0, 0.4, 10)
    return Section(title, 0.55, [*usual, hottest], training, settings={"n_neighbors": 1})


def rendered(*sections: Section, title: str = "Screws") -> str:
    names = [found.name for part in sections for found in part.findings]
    return render_report(title, sections, dict.fromkeys(names, jpeg()), {"torch": "2.1"})


def data_of(page: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_the_page_holds_everything_and_asks_for_nothing():
    page = rendered(section())
    wanted = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert all(address.startswith("data:") for address in wanted)
    assert "url(" not in page
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


def test_small_pictures_of_oblong_images_keep_some_of_the_short_side():
    assert fair_side(960, 300, 400) == fair_side(960, 100, 400) == 960
    assert fair_side(960, 100, 3000) == fair_side(960, 3000, 100) == 2629


def test_colours_end_above_the_threshold_when_all_is_normal():
    usual = [np.full((4, 6), 0.1, np.float32), np.full((4, 6), 0.12, np.float32)]
    low, high = colour_range(usual, threshold=0.5)
    assert low < 0.12
    assert high > 0.5


def test_the_colours_of_what_is_constant_are_still_a_range():
    low, high = colour_range([np.full((4, 6), 0.5, np.float32)], threshold=0.5)
    assert low < high


def test_heat_is_transparent_where_nothing_is_and_opaque_where_it_is_hottest():
    found = np.zeros((10, 14), np.float32)
    found[4, 9] = 2
    alpha = np.asarray(heat_picture(found, low=0, high=1).convert("RGBA"))[..., 3]
    assert alpha.shape == (10, 14)
    assert alpha[4, 9] == 255
    assert alpha.sum() == 255


def test_a_map_of_16_bits_keeps_values():
    found = np.linspace(0, 2, 15, dtype=np.float32).reshape(3, 5)
    grey = np.asarray(Image.open(io.BytesIO(encoded(map_to_16_bits(found, low=0, high=2), "PNG"))))
    np.testing.assert_allclose(grey / 65535 * 2, found, atol=2e-5)


def test_a_crop_at_the_border_stays_inside_the_image():
    image = Image.new("RGB", (60, 40), (10, 20, 30))
    shown = Image.open(io.BytesIO(crop(image, (50, 30, 60, 40))))
    assert shown.size == (120, 120)
    away = np.abs(np.asarray(shown).astype(int) - (10, 20, 30)).max(axis=2)
    assert (away[50:70, 57:63] > 60).any()  # the outline's left side
    assert np.median(away) < 6


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed"
    ).sync_playwright
    if BROWSER is None:
        pytest.skip("there is no Chromium or Chrome: apt-get install chromium")
    with playwright() as running:
        launched = running.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open a report; afterwards there must have been no error on its console."""
    problems, contexts = [], []

    def opened(*sections: Section, width: int = 1280, height: int = 800, scheme: str = "light"):
        path = tmp_path / "report.html"
        path.write_text(rendered(*sections), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # ms; the machine may be busy
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def names(page) -> list[str]:
    return page.locator(".card .name").all_text_contents()


def slide(page, share: float) -> None:
    """Click on the slider, at a share of its length."""
    box = page.locator("#threshold").bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


@pytest.mark.slow
def test_the_slider_labels_anew_and_counts(show):
    page = show(section())
    assert page.locator("#counts").inner_text() == "2 anomalous · 4 normal"
    slide(page, 0.01)
    assert page.locator("#counts").inner_text() == "6 anomalous · 0 normal"
    assert page.locator(".card.bad").count() == 6
    slide(page, 0.99)
    assert page.locator("#counts").inner_text() == "0 anomalous · 6 normal"
    page.locator("#reset").click()
    assert page.locator("#counts").inner_text() == "2 anomalous · 4 normal"
    page.locator("#threshold-value").fill("0.7")
    assert page.locator(".card.bad").count() == 1
    assert page.locator("#histogram rect.bad").count() < page.locator("#histogram rect").count()


@pytest.mark.slow
def test_the_slider_is_fine_where_most_scores_are(show):
    usual = [finding(f"usual-{n}.png", 0.02 + 0.0001 * n) for n in range(40)]
    page = show(Section("Few-shot", 0.03, [*usual, finding("hole.png", 0.9)]))
    page.locator("#threshold").focus()
    before = float(page.locator("#threshold-value").input_value())
    page.keyboard.press("ArrowLeft")
    after = float(page.locator("#threshold-value").input_value())
    assert 0 < before - after < 0.002
    bars = page.locator("#histogram rect").evaluate_all(
        "bars => bars.map(bar => Number(bar.getAttribute('height')))"
    )
    assert sum(height > 0 for height in bars) > 8  # in equal bins it would be two
    assert page.locator("#highest").inner_text().startswith("1")


@pytest.mark.slow
def test_keys_move_the_threshold(show):
    page = show(section())
    value = page.locator("#threshold-value")
    page.keyboard.press("]")
    raised = float(value.input_value())
    assert raised > 0.55
    for key in (",", ","):
        page.keyboard.press(key)
    assert float(value.input_value()) < 0.55


@pytest.mark.slow
def test_filter_label_and_order_choose_what_is_shown(show):
    page = show(section())
    page.locator("[data-show=anomalous]").click()
    assert names(page) == ["part-5.png", "part-4.png"]
    page.locator("[data-show=all]").click()
    page.locator("#filter").fill("scratch")
    assert names(page) == ["part-5.png"]
    page.locator("#filter").fill("no such image")
    assert page.locator("#nothing").is_visible()
    page.locator("#filter").fill("")
    page.locator("#sort").select_option("low")
    assert names(page)[0] == "part-0.png"


@pytest.mark.slow
def test_keys_walk_through_the_images_and_change_the_view(show):
    page = show(section())
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#detail-name").inner_text() == "part-5.png"
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-name").inner_text() == "part-4.png"
    page.keyboard.press("3")
    assert page.locator("#stage .original").is_hidden()
    page.keyboard.press("1")
    assert page.locator("#stage .heat").is_hidden()
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    page.locator(".card:focus[title='part-4.png']").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("part-1")
    assert names(page) == ["part-1.png"]


@pytest.mark.slow
def test_an_image_shows_its_boxes_defects_and_neighbours(show):
    page = show(section())
    page.locator(".card").first.click()
    box = page.locator("#stage rect").first.bounding_box()
    frame = page.locator("#stage .frame").bounding_box()
    assert box["x"] - frame["x"] == pytest.approx(40 / 480 * frame["width"], abs=3)
    assert box["height"] == pytest.approx(100 / 320 * frame["height"], abs=5)
    assert "scratch 75 %" in page.locator("#facts").inner_text()
    assert page.locator("#stage text").all_text_contents() == ["scratch 75 %"]
    assert page.locator(".pair").count() == 2
    assert page.locator(".pair .missing").count() == 1
    page.locator("#facts tr").nth(1).focus()
    assert "on" in page.locator("#stage rect").nth(1).get_attribute("class")


@pytest.mark.slow
def test_tabs_change_the_detector(show):
    page = show(section(6), section(3, "Zero-shot"))
    page.locator("[role=tab]").nth(1).click()
    assert page.locator(".card").count() == 3
    assert page.locator("#summary").inner_text().startswith("3 images")


@pytest.mark.slow
def test_a_phone_needs_no_sideways_scrolling(show):
    page = show(section(), width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator(".card").first.click()
    frame = page.locator("#stage .frame").bounding_box()
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= 360
    assert page.locator("#close").is_visible()


@pytest.mark.slow
def test_the_controls_of_a_phone_are_folded_into_one_line(show):
    page = show(section(), width=390, height=844)
    assert page.locator("#controls").bounding_box()["height"] < 60
    assert page.locator(".card").first.bounding_box()["y"] < 170
    page.locator("#fold").click()
    slide(page, 0.01)
    assert page.locator("#counts").inner_text() == "6 anomalous · 0 normal"
    page.locator("#fold").click()
    assert page.locator("#threshold").is_hidden()


@pytest.mark.slow
def test_the_headline_counts_unreadable_images_and_leads_to_them(show):
    first = section()
    part = replace(section(3, "Zero-shot"), unreadable={"bad.png": "cut off", "x.png": "empty"})
    page = show(first, part)
    assert page.locator("#summary").inner_text() == "6 images, 2 anomalous"
    page.locator("[role=tab]").nth(1).click()
    assert page.locator("#summary").inner_text() == "5 images, 1 anomalous, 2 unreadable"
    target = page.locator("#summary a").get_attribute("href")
    assert "cut off" in page.locator(target).inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(100, 3000), (3000, 100)])
def test_an_oblong_image_is_no_line_and_starts_at_its_hottest_region(show, size):
    height, width = size
    box = [round(0.8 * side) for side in (width, height)]
    found = replace(
        finding("strip.png", 0.9),
        size=size,
        regions=[Region((*box, box[0] + 10, box[1] + 10), 0.9)],
    )
    page = show(Section("Few-shot", 0.5, [found]))
    shown = page.locator(".card .original")
    assert shown.evaluate("image => getComputedStyle(image).objectFit") == "cover"
    page.locator(".card").click()
    stage, frame, region = (
        page.locator(f"#stage{part}").bounding_box() for part in ("", " .frame", " rect")
    )
    assert min(frame["width"], frame["height"]) > 0.3 * min(stage["width"], stage["height"])
    for axis, side in (("x", "width"), ("y", "height")):
        assert stage[axis] <= region[axis] <= stage[axis] + stage[side] - region[side]


@pytest.mark.slow
def test_it_is_dark_where_the_reader_likes_it_dark(show):
    def brightness(page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    page = show(section(), scheme="dark")
    assert brightness(page) < 150
    page.locator("#theme").click()
    assert brightness(page) > 600


@pytest.mark.slow
def test_two_thousand_images_stay_fluid(show):
    page = show(section(2000))
    assert page.locator("#summary").inner_text() == "2000 images, 899 anomalous"
    assert page.locator(".card").count() < 100
    spent = page.evaluate("""() => {
        const slider = document.getElementById('threshold'), start = performance.now();
        const low = Number(slider.min), high = Number(slider.max);
        for (const share of [0.1, 0.9, 0.3, 0.7, 0.5]) {
            slider.value = low + share * (high - low);
            slider.dispatchEvent(new Event('input'));
        }
        return (performance.now() - start) / 5;
    }""")
    assert spent < 250, f"{spent} ms for one step of the slider"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    last = page.locator(".card[title='part-0.png'] .original[src]")
    last.wait_for()
    assert page.locator(".card").count() < 100
    assert last.bounding_box()["y"] < 800


@pytest.mark.slow
def test_keys_lead_through_cards_that_are_not_on_the_page_yet(show):
    page = show(section(500))
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    focused = page.locator(".card:focus[title='part-440.png']")
    focused.wait_for()
    assert 0 <= focused.bounding_box()["y"] <= 800
    page.keyboard.press("Enter")
    for _ in range(50):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    page.locator(".card:focus[title='part-490.png']").wait_for()
    page.locator("#sort").select_option("low")
    page.evaluate("scrollTo(0, 0)")
    page.locator(".card[title='part-0.png']").wait_for()
