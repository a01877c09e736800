"""The report in a browser: what a person does with it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyimgano_openclip.cli.judging import plain_region
from pyimgano_openclip.cli.marks import read_marks
from pyimgano_openclip.maps.levels import Levels
from pyimgano_openclip.maps.pictures import colour_scale
from pyimgano_openclip.maps.regions import find_regions
from pyimgano_openclip.report.page import Evaluation, Finding, Section

from helpers.reports import data_of, finding, hot_region, rendered, section

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


# Without a network Chromium would go on asking for one.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


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
def test_arrows_move_the_number_of_the_threshold_as_brackets_do(show):
    page = show(section())
    value = page.locator("#threshold-value")
    page.keyboard.press("]")
    raised = value.input_value()
    page.locator("#reset").click()
    value.focus()
    page.keyboard.press("ArrowUp")
    assert value.input_value() == raised
    assert page.locator("#counts").inner_text() == "2 anomalous · 4 normal"
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    assert 0.4 < float(value.input_value()) < 0.55
    for typed in ("0.7123", "0,7123", ".7123", "7123e-4"):
        value.fill(typed)
        assert page.locator("#counts").inner_text() == "1 anomalous · 5 normal"
        assert value.evaluate("field => field.validity.valid")
    for typed in ("", "-", "1e", "high", "Infinity", "0x0", "0b0", "1,234.5"):
        value.fill(typed)
        assert page.locator("#counts").inner_text() == "1 anomalous · 5 normal"


@pytest.mark.slow
@pytest.mark.parametrize("key", ["Tab", "Enter"])
def test_the_threshold_in_force_is_shown_when_typing_ends(key, show):
    page = show(section())
    value = page.locator("#threshold-value")
    typing = ("abc", "0.55"), ("abc", "0.55"), ("0,7", "0.7"), ("1,234.5", "0.7"), (" ", "0.7")
    for typed, left in typing:
        value.focus()
        value.press("Control+a")
        page.keyboard.insert_text(typed)
        assert value.input_value() == typed
        page.keyboard.press(key)
        assert value.input_value() == left


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
@pytest.mark.parametrize("defects", [{}, {"defects": ["dent", "hole"]}])
def test_a_region_without_a_name_says_so_where_names_were_asked_for(defects, show):
    one = finding("a.png", 0.9, regions=[hot_region((40, 60, 120, 160), 0.9)])
    page = show(Section("Prompts", 0.5, [one], settings=defects))
    page.locator(".card").first.click()
    assert ("No named defect leads" in page.locator("#facts").inner_text()) == bool(defects)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "known", "nearest"),
    [
        (False, "normal training images", "normal ones"),
        (True, "unlabelled images of the pool", "of other images"),
    ],
)
def test_images_are_compared_with_what_the_detector_knows(pool, known, nearest, show):
    one = section(1).findings[0]
    page = show(Section("One", 0.5, [replace(one, percentile=0.8)], [0.1, 0.2], pool=pool))
    assert page.locator("#legend-training").inner_text() == f"{known}, 2"
    assert page.locator("#histogram path title").text_content() == f"2 {known}"
    page.locator(".card").first.click()
    facts = page.locator("#facts").inner_text()
    assert f"above 80 % of the {known}" in facts
    assert f"and the nearest {nearest}" in facts.replace("\n", " ")


@pytest.mark.slow
def test_tabs_change_the_detector(show):
    page = show(section(6), section(3, "Zero-shot"))
    page.locator("[role=tab]").nth(1).click()
    assert page.locator(".card").count() == 3
    assert page.locator("#summary").inner_text().startswith("3 images")


@pytest.mark.slow
def test_a_threshold_that_was_moved_stays_while_other_tabs_are_looked_at(show):
    page = show(section(), replace(section(), title="zero-shot", threshold=0.5))
    value, counts = page.locator("#threshold-value"), page.locator("#counts")
    value.fill("0.75")
    moved = counts.text_content()
    page.get_by_role("tab", name="zero-shot").click()
    assert value.input_value() == "0.5"
    assert page.locator("#reset").is_hidden()
    page.get_by_role("tab").first.click()
    assert value.input_value() == "0.75"
    assert counts.text_content() == moved
    page.locator("#reset").click()
    page.get_by_role("tab", name="zero-shot").click()
    page.get_by_role("tab").first.click()
    assert page.locator("#reset").is_hidden()


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
        regions=[hot_region((*box, box[0] + 10, box[1] + 10), 0.9)],
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


@pytest.mark.slow
def test_marks_and_threshold_are_exported_for_the_command_line(show, tmp_path):
    for name in ("part-4.png", "part-5.png"):
        (tmp_path / name).touch()
    page = show(replace(section(), folder=str(tmp_path), saved="few.safetensors", digest="5ca1e"))
    page.locator(".card").first.click()
    page.keyboard.press("w")  # part-5.png is normal
    page.keyboard.press("ArrowRight")
    page.locator("[data-mark=right]").click()  # part-4.png is anomalous
    page.keyboard.press("Escape")
    page.locator("[data-show=wrong]").click()
    assert names(page) == ["part-5.png"]
    page.locator("#threshold-value").fill("0.75")
    page.locator("[data-show=all]").click()
    verdicts = page.locator(".card").evaluate_all("cards => cards.map(c => c.dataset.verdict)")
    assert verdicts[:3] == ["wrong", "wrong", None]  # the threshold has passed part-4.png
    with page.expect_download() as saving:
        page.locator("#export").click()
    saving.value.save_as(tmp_path / "marks.json")
    marks = read_marks(tmp_path / "marks.json")
    assert (marks.detector, marks.digest) == ("few.safetensors", "5ca1e")
    assert marks.threshold == 0.75
    assert marks.false_alarms == marks.of_truth(0) == [tmp_path / "part-5.png"]
    assert marks.of_truth(1) == [tmp_path / "part-4.png"]
    assert len(marks.images) == 6


def warns_on_leaving(page) -> bool:
    return page.evaluate(
        "!dispatchEvent(new Event('beforeunload', { cancelable: true }))"  # what a browser asks
    )


def truths_exported(page) -> dict[str, str]:
    """Export, and read what the images were marked as, by name."""
    with page.expect_download() as saving:
        page.locator("#export").click()
    found = json.loads(Path(saving.value.path()).read_text())
    return {one["image"]: one["truth"] for one in found["images"] if one["truth"]}


@pytest.mark.slow
def test_what_an_image_was_marked_as_is_known_to_all_detectors_of_its_folder(show):
    parts = [replace(section(6, title), folder="/line/new") for title in ("Few-shot", "Zero-shot")]
    page = show(*parts, replace(section(6, "Elsewhere"), folder="/line/old"))
    tabs = page.locator("[role=tab]")
    assert not warns_on_leaving(page)
    page.locator(".card").first.click()
    page.keyboard.press("w")
    page.keyboard.press("Escape")
    tabs.nth(2).click()
    assert truths_exported(page) == {}
    assert warns_on_leaving(page)  # what was marked is not in that file
    tabs.nth(1).click()
    assert page.locator(".card").first.get_attribute("data-verdict") == "wrong"
    assert truths_exported(page) == {"part-5.png": "normal"}
    assert not warns_on_leaving(page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("percentile", "told"),
    [(1.0, "all"), (0.9967, "99.6 %"), (0.99999, "99.9 %"), (0.896, "89 %"), (0.29, "29 %")],
)
def test_all_training_images_are_all_of_them(percentile, told, show):
    page = show(Section("Few-shot", 0.5, [finding("a.png", 0.9, percentile=percentile)]))
    page.locator(".card").click()
    assert f"above {told} of the normal training images" in page.locator("#facts").inner_text()


@pytest.mark.slow
def test_unreadable_images_have_cards_with_the_reason_and_do_not_pass(show):
    page = show(replace(section(2), unreadable={"bad.png": "bad.png is cut off"}))
    card = page.locator(".card[title='bad.png']")
    assert "bad.png is cut off" in card.inner_text()
    assert names(page)[0] == "bad.png"
    assert page.locator("#counts").inner_text() == "0 anomalous · 2 normal"
    page.locator("[data-show=anomalous]").click()
    assert names(page) == ["bad.png"]
    card.click()
    assert "cut off" in page.locator("#facts").inner_text()
    assert page.locator("#facts .tag").inner_text() == "anomalous"
    page.keyboard.press("ArrowRight")


@pytest.mark.slow
def test_cards_have_the_proportions_of_the_images_and_the_page_says_what_it_shows(show):
    square = [replace(finding(f"{n}.png", n / 4), size=(200, 200)) for n in range(4)]
    page = show(
        Section("Few-shot", 0.5, square, [0.1, 0.2], folder="/line/new", scale=(0.05, 0.62))
    )
    box = page.locator(".card .frame").first.bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1)
    assert page.locator("#about").inner_text() == "2026-11-26 09:30 · Few-shot · /line/new"
    assert page.locator("#scale").inner_text().split() == ["0.05", "0.62"]
    assert "training images, 2" in page.locator("#legend").inner_text()


@pytest.mark.slow
def test_the_contour_lies_where_the_map_is_hot_and_zoom_enlarges(show):
    page = show(Section("Few-shot", 0.5, [finding("a.png", 0.9)]))
    page.locator(".card").click()
    # A box includes half of the line and its ends. Columns 5 to 7 of 12 are hot, and the line runs
    # where the map crosses 70 % of its peak on its way to the next column.
    line, frame = (page.locator(f"#stage {part}") for part in (".contour path[d^=M]", ".frame"))
    line.wait_for()
    before = frame.bounding_box()
    left, width = 5.2 / 12 * before["width"], 2.6 / 12 * before["width"]
    assert line.bounding_box()["x"] - before["x"] == pytest.approx(left, abs=5)
    assert line.bounding_box()["width"] == pytest.approx(width, abs=10)
    frame.dblclick(position={"x": left, "y": before["height"] / 4})
    assert frame.bounding_box()["width"] == pytest.approx(3 * before["width"], rel=0.01)
    corner = line.bounding_box()
    assert corner["x"] == pytest.approx(before["x"] + left, abs=20)
    page.keyboard.press("z")
    assert frame.bounding_box()["width"] == pytest.approx(before["width"], abs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("follows", "widths"), [(True, [21.7, 18.5, 21.7, None]), (False, [21.7] * 4)]
)
def test_the_contour_follows_the_slider_where_regions_do(follows, widths, show):
    """At most down to 70 % of the peak, as regions of the detector; in percent of the image."""
    page = show(Section("Few-shot", 0.5, [finding("a.png", 0.9)], region=0.45, follows=follows))
    line = page.locator(".card .contour path")
    page.wait_for_function("document.querySelector('.card .contour path').getAttribute('d')")
    shown = []
    for threshold in ("0.5", "0.8", "0.1", "0.95"):
        page.locator("#threshold-value").fill(threshold)
        page.evaluate("new Promise(requestAnimationFrame)")
        page.evaluate("new Promise(requestAnimationFrame)")
        ends = re.findall(r"[ML]([\d.]+) ", line.get_attribute("d"))
        xs = [float(end) for end in ends]
        shown.append(pytest.approx(max(xs) - min(xs), abs=1) if xs else None)
    assert widths == shown


BUMPS = {  # (x, y), peak
    "strong.png": ((60, 40), 0.9),
    "faint.png": ((30, 60), 0.0705),
    "corner.png": ((111, 83), 0.9),
}


def bump(name: str) -> np.ndarray:
    """A map whose hot place fades slowly, of the size of its image."""
    (x, y), peak = BUMPS[name]
    rows, cols = np.ogrid[:84, :112]
    return (0.03 + (peak - 0.03) * np.exp(-np.hypot(cols - x, rows - y) / 18)).astype(np.float32)


def among_many_good_ones(threshold: float = 0.07) -> Section:
    """An image far hotter than the colours go, and one just above the threshold."""
    maps = {name: bump(name) for name in BUMPS}
    levels = Levels.of(0.03, 0.11, threshold, highest=0.9)
    findings = [
        Finding(
            name, float(found.max()), found.shape, levels.picture(found),
            regions=[plain_region(region) for region in find_regions(found, threshold, 10)],
        )
        for name, found in maps.items()
    ]  # fmt: skip
    values = levels.values.tolist()
    return Section(
        "Few-shot", threshold, findings, scale=(0.03, 0.11), levels=values, region=threshold
    )


def line_around(page, name: str) -> list[float]:
    """The contour's left, top, right and bottom in pixels of the image."""
    page.wait_for_function(
        "name => document.querySelector(`[title='${name}'] .contour path[d^=M]`)", arg=name
    )
    line = page.locator(f"[title='{name}'] .contour path").get_attribute("d")
    ends = [
        (1.12 * float(x), 0.84 * float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", line)
    ]
    return [*np.min(ends, axis=0), *np.max(ends, axis=0)]


@pytest.mark.slow
def test_the_contour_runs_along_the_box_however_hot_or_faint_the_region_is(show):
    page = show(among_many_good_ones())
    for image in data_of(page.content())["sections"][0]["images"]:
        (region,) = image["regions"]
        around = line_around(page, image["name"])
        assert around == pytest.approx(region["box"], abs=1)
        if image["name"] == "corner.png":
            assert around[2:] == pytest.approx([112, 84], abs=0.1)  # the image's edge


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.8])
def test_where_the_slider_has_moved_the_contour_is_that_of_the_threshold_there(threshold, show):
    page = show(among_many_good_ones())
    page.locator("#threshold-value").fill(str(threshold))
    page.evaluate("new Promise(requestAnimationFrame)")
    page.evaluate("new Promise(requestAnimationFrame)")
    (region,) = find_regions(bump("strong.png"), threshold, 10)
    assert line_around(page, "strong.png") == pytest.approx(region.box, abs=1)


@pytest.mark.slow
def test_heat_is_transparent_where_nothing_is_and_opaque_where_it_is_hottest(show):
    page = show(among_many_good_ones())
    line_around(page, "strong.png")
    shown = page.locator("[title='strong.png'] .heat").evaluate("""heat => [
        heat.width, heat.height,
        ...heat.getContext('2d').getImageData(60, 40, 1, 1).data,
        heat.getContext('2d').getImageData(111, 83, 1, 1).data[3],
    ]""")
    assert shown[:2] == [112, 84]
    assert shown[2:5] == [int(colour_scale(2)[-1][at : at + 2], 16) for at in (1, 3, 5)]
    assert shown[5] == 255
    expected = 255 * (bump("strong.png")[83, 111] - 0.03) / 0.08
    assert 0 < shown[6] < 255
    assert shown[6] == pytest.approx(expected, abs=5)


@pytest.mark.slow
def test_a_map_alone_is_opaque(show):
    page = show(section())
    page.keyboard.press("3")
    shown = page.locator(".card .heat").first.evaluate("heat => getComputedStyle(heat).filter")
    assert shown == 'url("#opaque")'


@pytest.mark.slow
def test_a_map_alone_covers_nothing_beside_it(show):
    page = show(among_many_good_ones())
    page.locator(".card").first.click()
    facts = page.locator("#facts")
    page.locator("#stage .contour path[d^=M]").wait_for()
    beside = facts.screenshot()
    page.keyboard.press("3")
    assert facts.screenshot() == beside


@pytest.mark.slow
def test_curves_of_two_detectors_are_drawn_side_by_side(show):
    curve = {"ROC": [(0, 0), (0, 0.5), (1, 1)]}
    parts = [
        replace(section(2, title), evaluation=Evaluation({"AUROC": number}, curve))
        for title, number in (("a", "91.0 %"), ("b", "87.5 %"))
    ]
    page = show(*parts)
    assert page.locator("#evaluation tr").nth(1).inner_text().split("\t") == [
        "AUROC", "91.0 %", "87.5 %",
    ]  # fmt: skip
    first, second = page.locator("#evaluation polyline").all()
    assert first.bounding_box() == second.bounding_box()
