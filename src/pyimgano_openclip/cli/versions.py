"""What is installed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("pyimgano", "open_clip_torch", "torch", "timm", "numpy", "opencv-python", "pillow")


def versions() -> dict[str, str]:
    """Names and versions of the installed software that affects scores."""
    found = {"Python": platform.python_version(), "platform": platform.platform(terse=True)}
    known = {package: installed(package) for package in PACKAGES}
    return {**found, **{name: number for name, number in known.items() if number is not None}}


def installed(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
