"""What the source distribution and the wheel hold, built from a tree that was worked in."""

import importlib.util
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from pyimgano_openclip import __version__

from helpers.places import ROOT
from helpers.processes import run_python

pytest.importorskip("hatchling")

FOLDERS = ("examples", "src", "tests")
HOOK = ".ci/long_description.py"  # pyproject.toml names it
FILES = (".gitignore", HOOK, "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")
LITTER = (
    ".venv/pyvenv.cfg",
    "build/lib/old.py",
    "dist/pyimgano_openclip-0.0.1-py3-none-any.whl",
    "quickstart-output/contact-sheet.png",
    "src/pyimgano_openclip.egg-info/PKG-INFO",
    "src/pyimgano_openclip/.mypy_cache/cache.json",
    "src/pyimgano_openclip/__pycache__/checks.cpython-313.pyc",
    "tests/.pytest_cache/README.md",
    "tests/__pycache__/host.cpython-313.pyc",
)
IN_THE_PACKAGE = {".css", ".html", ".js", ".json", ".md", ".py", ".safetensors", ".typed", ""}
MOST = 16 * 2**20  # bytes of a wheel; the bundled weights are 8 MB of it
BUILD = """
import os
from hatchling import build
os.chdir({tree!r})
build.build_sdist({out!r})
build.build_wheel({out!r})"""


def sources(tree):
    """Files in version control, as paths from the top of the tree."""
    caches = {"__pycache__", ".pytest_cache", ".mypy_cache", "pyimgano_openclip.egg-info"}
    found = [path.relative_to(tree) for folder in FOLDERS for path in (tree / folder).rglob("*")]
    return {
        *FILES,
        *(
            path.as_posix()
            for path in found
            if (tree / path).is_file() and not caches.intersection(path.parts)
        ),
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with both distributions, and one with the unpacked source distribution."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("out")
    for name in sources(ROOT):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    for name in LITTER:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("litter")
    run_python(BUILD.format(tree=str(tree), out=str(out)))
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(out, filter="data")
    return out, out / archive.name.removesuffix(".tar.gz")


def wheel_in(folder):
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_the_source_distribution_is_what_is_in_version_control(built):
    _, unpacked = built
    found = {path for path in unpacked.rglob("*") if path.is_file()}
    names = {path.relative_to(unpacked).as_posix() for path in found}
    assert names == {*sources(ROOT), "PKG-INFO"}


def test_the_wheel_is_the_package_and_what_puts_it_into_the_host(built):
    out, _ = built
    own = {name.removeprefix("src/") for name in sources(ROOT) if name.startswith("src/")}
    assert {Path(name).suffix for name in own} == {*IN_THE_PACKAGE, ".pth", ".start"}
    facts = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    (folder,) = {name.split("/")[0] for name in wheel_in(out) if ".dist-info/" in name}
    assert wheel_in(out).keys() == {*own, *(f"{folder}/{name}" for name in facts)}
    (file,) = out.glob("*.whl")
    assert file.name.endswith("-py3-none-any.whl")
    assert file.stat().st_size < MOST


def test_the_source_distribution_builds_the_same_wheel(built, tmp_path):
    out, unpacked = built
    run_python(BUILD.format(tree=str(unpacked), out=str(tmp_path)))
    assert wheel_in(tmp_path) == wheel_in(out)


def test_no_link_of_the_long_description_leads_to_a_file(built):
    out, _ = built
    (metadata,) = (data for name, data in wheel_in(out).items() if name.endswith("/METADATA"))
    facts, _, text = metadata.decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in facts
    assert f"Version: {__version__}\n" in facts
    assert "## Install" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 3
    assert [link for link in links if not link.startswith("https://")] == []


def test_links_are_absolute_where_the_source_has_an_address():
    spec = importlib.util.spec_from_file_location("long_description", ROOT / HOOK)
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = "![a](b/c.jpg) and [d](e.md), not [f](https://g.org) nor [h](#i)"
    assert hook.without_relative_links(text, "https://x.org/y") == (
        "![a](https://x.org/y/raw/HEAD/b/c.jpg) and [d](https://x.org/y/blob/HEAD/e.md), "
        "not [f](https://g.org) nor [h](#i)"
    )
    assert hook.without_relative_links(text) == " and d, not [f](https://g.org) nor [h](#i)"


def test_the_changelog_and_the_citation_name_the_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{__version__}]" in changes
    assert f"version {__version__}" in (ROOT / "README.md").read_text(encoding="utf-8")
