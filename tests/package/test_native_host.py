"""A host that reads the entry-point group itself, patched as plugin.md proposes."""

import re
from pathlib import Path

import pyimgano
import pytest

from helpers.places import ROOT
from helpers.processes import NAMES, OURS, registered, run_python

pytestmark = pytest.mark.slow

REPORT = f"""
from pyimgano.models import MODEL_REGISTRY
for name in {NAMES}:
    print(sorted(MODEL_REGISTRY.info(name).metadata.items()), MODEL_REGISTRY.info(name).tags)"""


@pytest.fixture
def native_host(tmp_path):
    """Folder of a host with both pieces of plugin.md; everything else in it is linked."""
    text = (ROOT / "src/pyimgano_openclip/plugin.md").read_text()
    section = text.partition("## For the maintainers of pyimgano")[2]
    reading, guarding = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    original = Path(pyimgano.__file__).parent
    link(original, tmp_path / "pyimgano", without="models")
    models = tmp_path / "pyimgano" / "models"
    link(original / "models", models, without="registry.py")
    text = (original / "models" / "registry.py").read_text()
    text = text.replace(
        "\nfrom dataclasses", "\nimport importlib.metadata\nimport warnings\nfrom dataclasses", 1
    )
    text = text.replace("    def __init__", f"{reading}\n    def __init__", 1)
    body = "        if not overwrite and name in"
    text = text.replace(body, guarding + body, 1)
    for start in (
        "        try:\n            return self._registry[name]",
        "        if tags is None:\n            return sorted(self._registry)",
        "        if name not in self._registry:\n",
    ):
        assert text.count(start) == 1
        text = text.replace(start, f"        self._read_plugins()\n{start}")
    (models / "registry.py").write_text(text)
    return tmp_path


def link(source, target, without=""):
    target.mkdir()
    for path in source.iterdir():
        if path.name not in (without, "__pycache__"):
            (target / path.name).symlink_to(path)


@pytest.mark.parametrize("autoload", ["0", "1"])
@pytest.mark.parametrize(
    "first",
    ["", "import pyimgano_openclip.patchknn", "import pyimgano.models.openclip_patch_map"],
)
def test_it_has_our_detectors_with_and_without_autoload(native_host, first, autoload):
    env = {"PYTHONPATH": str(native_host), "PYIMGANO_OPENCLIP_AUTOLOAD": autoload}
    assert registered(first, "-W", "error", **env) == OURS


def test_autoload_leaves_its_entries_alone(native_host):
    first = "import pyimgano.models.openclip_backend"
    off, on = (
        run_python(first + REPORT, PYTHONPATH=str(native_host), PYIMGANO_OPENCLIP_AUTOLOAD=autoload)
        for autoload in "01"
    )
    assert on.stdout == off.stdout
    assert on.stdout.count("'entry_point', 'pyimgano_openclip.") == len(NAMES)
    assert "'numpy'" in on.stdout
    assert on.stderr == off.stderr == ""


def test_what_it_tells_of_them_is_what_autoload_tells(native_host):
    entry = re.compile(r"\('entry_point', '[^']*'\), ")
    native = run_python(REPORT, PYTHONPATH=str(native_host), PYIMGANO_OPENCLIP_AUTOLOAD="0")
    assert entry.sub("", native.stdout) == run_python(REPORT).stdout


def test_a_broken_plugin_costs_it_one_warning(native_host):
    (native_host / "broken-1.0.dist-info").mkdir()
    names = native_host / "broken-1.0.dist-info" / "entry_points.txt"
    names.write_text("[pyimgano.models]\nvision_broken = no_such_module:Detector\n")
    (names.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    done = run_python(f"import pyimgano.models{REPORT}", PYTHONPATH=str(native_host))
    assert done.stderr.count("RuntimeWarning: ") == 1
    assert "vision_broken" in done.stderr
    assert done.stdout.count("pyimgano-openclip") == len(NAMES)
