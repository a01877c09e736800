"""Installing and uninstalling, by pip in environments of their own.

Each has the dependencies of this one, linked, and no trace of this package; nothing is downloaded.
"""

import os
import shutil
import sys
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest

from processes import OURS, registered, run, run_python

ROOT = Path(__file__).parent.parent
HOSTS_OWN = ["pyimgano.models", "pyimgano.models"]  # its lazy placeholders

pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment with the dependencies but without this package."""

    def __init__(self, folder: Path) -> None:
        builder = venv.EnvBuilder(symlinks=os.name != "nt")
        self.python = builder.ensure_directories(folder / "venv").env_exe
        builder.create(folder / "venv")
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(run_python(where, python=self.python).stdout.strip())
        dependencies = folder / "dependencies"
        dependencies.mkdir()
        for source in {Path(found.locate_file("")) for found in distributions()}:
            self._link(source, dependencies)
        (self.site / "dependencies.pth").write_text(str(dependencies))

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        for path in source.iterdir():
            ours = "pyimgano_openclip" in path.name
            if not ours and path.suffix != ".pth" and not (target / path.name).exists():
                (target / path.name).symlink_to(path)

    def pip(self, *arguments: object) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *arguments)

    def install(self, *arguments: object) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-build-isolation", *arguments)

    def registered(self) -> list[str]:
        return registered(python=self.python)

    def state(self) -> tuple[list[Path], str]:
        """All files in site-packages, and all that the host's registry says of its models."""
        code = """
from pyimgano.models import MODEL_REGISTRY
for name in MODEL_REGISTRY.available():
    entry = MODEL_REGISTRY.info(name)
    print(name, entry.constructor.__module__, entry.tags, entry.metadata)"""
        done = run_python(code, python=self.python)
        assert done.stderr == ""
        return sorted(path for path in self.site.rglob("*") if path.is_file()), done.stdout


@pytest.fixture
def environment(tmp_path):
    for builder in ("pip", "hatchling", "editables"):  # used from here, not downloaded
        pytest.importorskip(builder)
    return Environment(tmp_path)


@pytest.mark.parametrize("how", [[ROOT], ["--editable", ROOT]], ids=["plain", "editable"])
def test_pip_install_activates_and_pip_uninstall_leaves_no_trace(environment, how):
    before = environment.state()
    assert environment.registered() == HOSTS_OWN
    environment.install(*how)
    assert environment.registered() == OURS
    environment.pip("uninstall", "--yes", "pyimgano-openclip")
    assert environment.registered() == HOSTS_OWN
    assert environment.state() == before


def test_an_editable_install_runs_the_source_tree(environment):
    environment.install("--editable", ROOT)
    code = "import pyimgano_openclip as package; print(package.__file__)"
    file = run_python(code, python=environment.python).stdout.strip()
    assert Path(file) == ROOT / "src" / "pyimgano_openclip" / "__init__.py"


def test_remains_of_a_half_deleted_install_do_not_disturb(environment):
    environment.install(ROOT)
    shutil.rmtree(environment.site / "pyimgano_openclip")
    assert run_python("pass", "-W", "error", python=environment.python).stderr == ""
    done = run_python("import pyimgano.models", python=environment.python)
    assert done.stderr.count("pyimgano-openclip could not register its detectors") == 1

    (environment.site / "_pyimgano_openclip_autoload.py").unlink()
    assert (environment.site / "pyimgano_openclip_autoload.pth").exists()
    assert environment.registered() == HOSTS_OWN
