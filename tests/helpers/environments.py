"""Virtual environments of their own, in which nothing is downloaded."""

import os
import sys
import venv
from collections.abc import Collection
from importlib.metadata import distributions
from pathlib import Path

from helpers.processes import registered, run, run_python


class Environment:
    """A virtual environment with the dependencies but without this package.

    Args:
        folder: Where to make it.
        only: Names of the files and folders in site-packages to link; None for all.
    """

    def __init__(self, folder: Path, only: Collection[str] | None = None) -> None:
        builder = venv.EnvBuilder(symlinks=os.name != "nt")
        self.python = builder.ensure_directories(folder / "venv").env_exe
        builder.create(folder / "venv")
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(run_python(where, python=self.python).stdout.strip())
        dependencies = folder / "dependencies"
        dependencies.mkdir()
        for source in {Path(found.locate_file("")) for found in distributions()}:
            self._link(source, dependencies, only)
        (self.site / "dependencies.pth").write_text(str(dependencies))

    @staticmethod
    def _link(source: Path, target: Path, only: Collection[str] | None) -> None:
        for path in source.iterdir():
            ours = "pyimgano_openclip" in path.name
            left_out = ours or (only is not None and path.name not in only)
            if not left_out and path.suffix != ".pth" and not (target / path.name).exists():
                (target / path.name).symlink_to(path)

    def pip(self, *arguments: object) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *arguments)

    def install(self, *arguments: object) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-build-isolation", *arguments)

    def registered(self, first: str = "", **env: str) -> list[str]:
        return registered(first, python=self.python, **env)

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
