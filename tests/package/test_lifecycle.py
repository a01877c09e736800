"""Installing and uninstalling, by pip in environments of their own.

Each has the dependencies of this one, linked, and no trace of this package; nothing is downloaded.
"""

import shutil
from pathlib import Path

import pytest

import pyimgano_openclip

from helpers.environments import Environment
from helpers.places import ROOT
from helpers.processes import HOSTS_OWN, OURS, run_python

VERSION = "pyimgano_openclip/version.py"  # where it is stated

# What a program does that knows of pyimgano only; without torch.
USER = """
import os
from helpers.embedders import ColourEmbedder, red_images, with_green
from pyimgano.models import MODEL_REGISTRY, create_model
detector = create_model("vision_openclip_patchknn", embedder=ColourEmbedder())
images = red_images(4)
if not os.path.exists({file!r}):
    detector.fit(images[:3]).save_checkpoint({file!r})
detector.load_checkpoint({file!r})
print(MODEL_REGISTRY.info("vision_openclip_patchknn").metadata["provider_version"])
print(detector.decision_function([images[3], with_green(images[3], 5, 5)]), detector.threshold_)"""

pytestmark = pytest.mark.slow


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


def test_upgrading_and_downgrading_keep_checkpoints_and_leave_nothing_behind(environment, tmp_path):
    old = tmp_path / "old"
    left_out = shutil.ignore_patterns(".git", ".*cache*", "__pycache__", "tests")
    shutil.copytree(ROOT, old, ignore=left_out)
    file = old / "src" / VERSION
    text = file.read_text()
    file.write_text(text.replace(f'"{pyimgano_openclip.__version__}"', '"0.0.1"'))
    before = environment.state()
    program = USER.format(file=str(tmp_path / "screw.safetensors"))
    answers = []
    for source in (old, ROOT, old):
        environment.install("--upgrade", source)
        assert environment.registered() == OURS
        done = run_python(program, "-W", "error", python=environment.python)
        answers.append(done.stdout.split("\n", maxsplit=1))
    assert [version for version, _ in answers] == ["0.0.1", pyimgano_openclip.__version__, "0.0.1"]
    assert len({scores for _, scores in answers}) == 1
    environment.pip("uninstall", "--yes", "pyimgano-openclip")
    assert environment.state() == before


def test_a_target_folder_waits_for_load_plugins(environment, tmp_path):
    folder = tmp_path / "target"
    environment.install("--target", folder, ROOT)
    path = {"PYTHONPATH": str(folder)}
    assert environment.registered(**path) == HOSTS_OWN
    ask = "from pyimgano.plugins import load_plugins; load_plugins(on_error='raise')"
    assert environment.registered(ask, **path) == OURS
    added = f"import site; site.addsitedir({str(folder)!r})"
    assert environment.registered(added) == OURS


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

    (environment.site / "_pyimgano_openclip_registration.py").unlink()
    done = run_python("import pyimgano.models", python=environment.python)
    assert done.stderr.count("pyimgano-openclip could not register its detectors") == 1
