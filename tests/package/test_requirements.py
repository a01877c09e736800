"""The oldest versions that we say we work with are those that are tested."""

import sys
from itertools import chain

from packaging.requirements import Requirement
from packaging.version import Version

from helpers.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

# Tools of developers, and what must not be installed beside opencv-python.
NOT_TESTED = {"build", "mypy", "opencv-python-headless", "ruff", "twine"}


def versions(requirements, operator):
    """The version after the operator, by the name of the package."""
    return {
        requirement.name: Version(clause.version)
        for requirement in map(Requirement, requirements)
        for clause in requirement.specifier
        if clause.operator == operator
    }


def test_every_lower_bound_is_a_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    stated = versions([*project["dependencies"], *extras], ">=")
    lines = (ROOT / "tests" / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tested = versions([line for line in lines if line and line[0] != "#"], "==")
    for name in NOT_TESTED:
        del stated[name]
    assert {name: tested.get(name) for name in stated} == stated
