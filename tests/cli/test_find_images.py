"""Which images a command finds, and what they are called."""

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from pyimgano_openclip.cli.images import search_images
from pyimgano_openclip.images.reading import read_pixels

from helpers.embedders import red_image
from helpers.runs import find_images, lock, scored


def test_images_of_folders_and_files_have_names_below_what_they_share(parts, tmp_path):
    found = find_images([parts])
    assert [source.name for source in found] == [
        "late/bad.png",
        *(f"part-{n}.png" for n in range(5)),
    ]
    one = find_images([parts / "part-1.png", parts / "part-1.png", parts / "late"])
    assert [source.name for source in one] == ["part-1.png", "late/bad.png"]
    with pytest.raises(ValueError, match="does not exist"):
        find_images([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image"):
        find_images([tmp_path / "empty"])


def test_masks_below_the_images_are_no_images_but_those_that_are_named(parts):
    masks = parts / "masks"
    masks.mkdir()
    names = [source.name for source in find_images([parts])]
    for place in (masks / "part-1.png", parts / "late/one.png"):
        Image.fromarray(red_image(8, 8)).save(place)
    (parts / "late/linked").symlink_to(masks)
    found = search_images([parts], masks=[parts / "late/../masks", parts / "late/one.png"])
    assert [source.name for source in found.images] == names
    assert found.masks == [
        str(parts / "masks"),
        str(parts / "late/linked"),
        str(parts / "late/one.png"),
    ]
    for place, above in ((masks, masks), (masks, parts), (masks / "part-1.png", masks)):
        (named,) = find_images([place], masks=[above])
        assert named.path == masks / "part-1.png"


def test_every_format_that_can_be_read_is_found_and_folders_are_not(tmp_path):
    image = Image.fromarray(red_image(8, 8))
    names = ["a.png", "b.JPG", "c.pgm", "d.pbm", "e.jp2", "f.jfif", "g.avif", "h.tif"]
    readable = [name for name in names if name[1:].lower() in Image.registered_extensions()]
    for name in readable:
        image.convert("L").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "report.eps").write_text("%!PS")
    (tmp_path / "folder.png").mkdir()
    assert [source.name for source in find_images([tmp_path])] == readable
    for source in find_images([tmp_path]):
        assert read_pixels(source.path).shape == (8, 8, 3)


def test_results_are_no_images_of_the_next_run(parts, tmp_path):
    place = tmp_path / "parts/late/results"
    place.mkdir()
    Image.fromarray(red_image(8, 8)).save(place / "overlay.jpg")
    names = [source.name for source in find_images([parts])]
    assert "late/results/overlay.jpg" in names
    names.remove("late/results/overlay.jpg")
    for places in ([parts], [parts, place], [place, parts]):
        for leave_out in (place, parts / "late/../late/results"):
            found = find_images(places, leave_out=leave_out)
            assert [source.name for source in found] == names
    (named,) = find_images([place / "overlay.jpg"], leave_out=place)
    assert named.name == "overlay.jpg"
    with pytest.raises(ValueError, match=r"no image in \S*results outside \S*results;"):
        find_images([place], leave_out=place)


def test_hidden_files_are_left_out_and_other_files_are_counted(tmp_path):
    folder = tmp_path / "images"
    (folder / ".thumbnails").mkdir(parents=True)
    for name in ("a.png", ".x.png", "._a.png", ".thumbnails/a.png"):
        Image.fromarray(red_image(8, 8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / "Thumbs.db").write_text("no image")
    (folder / ".DS_Store").write_text("no image")
    found = search_images([folder])
    assert [source.name for source in found.images] == ["a.png"]
    assert found.others == 2
    assert [source.name for source in find_images([folder / ".x.png"])] == [".x.png"]


def test_linked_folders_are_searched_and_loops_end(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "images"
    (elsewhere / "deep").mkdir(parents=True)
    folder.mkdir()
    for place in (folder / "a.png", elsewhere / "b.png", elsewhere / "deep/c.png"):
        Image.fromarray(red_image(8, 8)).save(place)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (elsewhere / "deep/loop").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    found = find_images([folder])
    assert [source.name for source in found] == ["a.png", "again/b.png", "again/deep/c.png"]
    assert [source.name for source in find_images([folder / "linked", folder])] == [
        "elsewhere/b.png",
        "elsewhere/deep/c.png",
        "images/a.png",
    ]


def test_an_image_is_found_once_however_it_is_spelt_and_linked(parts, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(parts)
    (parts / "copy.png").symlink_to(parts / "part-0.png")
    (parts / "late/up").symlink_to(parts)
    spellings = [
        parts, tmp_path / "link", parts / "late/..", parts / "part-0.png",
        tmp_path / "link/part-0.png", parts / "late/up/part-0.png", parts / "copy.png",
    ]  # fmt: skip
    names = ["late/bad.png", *(f"part-{n}.png" for n in range(5))]
    for places in (spellings, spellings[::-1]):
        found = search_images(places)
        assert sorted(source.name for source in found.images) == names
        assert found.repeated == 1
    monkeypatch.chdir(parts / "late")
    assert [source.name for source in find_images([Path("../../parts/late/bad.png")])] == [
        "bad.png"
    ]


def test_no_name_leads_out_of_the_common_folder(parts, tmp_path, monkeypatch):
    other = tmp_path / "other/images"
    other.mkdir(parents=True)
    Image.fromarray(red_image(8, 8)).save(other / "x.png")
    monkeypatch.chdir(parts)
    for places in (["late", "../other/images"], [parts / "late/../late", other / "../images"]):
        names = [source.name for source in find_images([Path(place) for place in places])]
        assert names == ["parts/late/bad.png", "other/images/x.png"]


def test_a_folder_that_cannot_be_listed_is_among_the_images_with_the_reason(parts, monkeypatch):
    lock(monkeypatch, parts / "late")
    found = find_images([parts])
    assert [(source.name, source.problem) for source in found if source.problem] == [
        ("late/", "cannot be searched for images: Permission denied")
    ]
    assert len(found) == 6
    (alone,) = find_images([parts / "late"])
    assert alone.name == "./"


def test_links_that_lead_nowhere_stay_as_images_that_will_be_missing(parts):
    (parts / "gone.png").symlink_to("nowhere")
    (parts / "batch").symlink_to("unmounted")
    (parts / "loop").symlink_to("loop")
    (parts / "notes.txt").symlink_to("late/bad.png")
    found = search_images([parts])
    names = {source.name for source in found.images}
    assert names >= {"gone.png", "batch", "loop"}
    assert found.others == 1


def test_what_earlier_runs_drew_is_found_by_their_record_wherever_it_lies(parts, tmp_path):
    names = [source.name for source in find_images([parts])]
    scored(parts, parts / "late/old")
    found = search_images([parts])
    assert [source.name for source in found.images] == names
    assert found.others == 0
    assert found.results == [str(parts / "late/old")]
    # Images of the user in a folder of results are images.
    Image.fromarray(red_image(8, 8)).save(parts / "late/old/mine.png")
    assert "late/old/mine.png" in [source.name for source in find_images([parts])]
    (parts / "direct").symlink_to(parts / "late/old/maps")
    (parts / "map.png").symlink_to(parts / "late/old/maps/part-0.png.png")
    assert len(find_images([parts])) == 7
    with pytest.raises(ValueError, match=r"no image in .*old/maps \(results of earlier runs"):
        find_images([parts / "late/old/maps"])
    (parts / "late/old/run.json").write_bytes(b"damaged")
    assert len(find_images([parts])) == 7


def test_a_folder_named_maps_is_one_of_images_where_there_are_no_results(tmp_path):
    (tmp_path / "maps").mkdir()
    Image.fromarray(red_image(8, 8)).save(tmp_path / "maps/city.png")
    (tmp_path / "run.json").write_text('{"of": "another program"}')
    assert [source.name for source in find_images([tmp_path])] == ["maps/city.png"]


def test_images_that_results_would_replace_are_refused(parts):
    with pytest.raises(ValueError, match="late lies in the folder of the results"):
        find_images([parts / "late"], leave_out=parts)
    (parts / "maps").mkdir()
    Image.fromarray(red_image(8, 8)).save(parts / "maps/a.png")
    with pytest.raises(ValueError, match=r"a\.png lies where results are written"):
        find_images([parts / "maps/a.png"], leave_out=parts / "late/..")
    assert search_images([parts / "part-0.png", parts], leave_out=parts).results == [str(parts)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_no_two_names_read_the_same(tmp_path):
    image = Image.fromarray(red_image(8, 8))
    raw = [b"a\xff.png", rb"a\udcff.png", rb"a\\udcff.png", b"a\\\xff.png", rb"C:\a.png", b"..png"]
    for name in raw:
        image.save(tmp_path / "new.png")
        (tmp_path / "new.png").rename(tmp_path / os.fsdecode(name))
    names = [source.name for source in find_images([tmp_path])]
    assert len(set(names)) == len(raw) - 1  # the last is hidden
    assert "a\\udcff.png" in names
    assert "C:\\a.png" in names
