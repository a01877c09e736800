"""What this package and all that it needs take on disk, in this environment.

python tests/benchmarks/installed_size.py
"""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

GPU = ("nvidia", "triton", "cuda")  # how names of GPU libraries begin
SHOWN = 8  # largest packages that are named


def main() -> None:
    """Add up the files of all packages."""
    sizes: dict[str, int] = {}
    visit("pyimgano-openclip", frozenset(), sizes, set())
    gpu = sum(size for name, size in sizes.items() if name.startswith(GPU))
    print(f"{len(sizes)} packages: {sum(sizes.values()) / 1e9:.1f} GB; GPU: {gpu / 1e9:.1f} GB")
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:SHOWN]:
        print(f"{sizes[name] / 1e6:6.0f} MB  {name}")


def visit(name: str, extras: frozenset[str], sizes: dict[str, int], seen: set) -> None:
    """Measure a package, then what it requires."""
    name = name.lower().replace("_", "-")
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    try:
        found = distribution(name)
    except PackageNotFoundError:  # for another system
        return
    sizes[name] = size_of(found)
    for text in found.requires or []:
        required = Requirement(text)
        told = [{"extra": extra} for extra in ("", *extras)]
        if required.marker is None or any(map(required.marker.evaluate, told)):
            visit(required.name, frozenset(required.extras), sizes, seen)


def size_of(found: Distribution) -> int:
    """Bytes of its files."""
    paths = [Path(found.locate_file(file)) for file in found.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    main()
