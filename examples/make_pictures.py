"""Make the pictures of the README anew: a screenshot of a report, and heat maps.

    python examples/make_pictures.py

The report is that of ``pyimgano-openclip demo``. A Chromium or Chrome of the system
photographs it, without a window.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import heat_maps
from pyimgano_openclip.cli import main as command

HERE = Path(__file__).parent / "pictures"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WINDOW = (1120, 780)  # pixels
PATIENCE = 120  # seconds
QUALITY = 85  # of JPEG


def browser() -> str:
    """Path of a browser."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        raise SystemExit(f"There is no browser; one of {', '.join(NAMES)} is needed.")
    return found


def photograph(page: Path, picture: Path) -> None:
    """Write what a browser shows of a page at first sight."""
    with TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = f"--window-size={WINDOW[0]},{WINDOW[1]}"
        profile = f"--user-data-dir={folder}/profile"
        subprocess.run(
            [browser(), *flags, size, profile, f"--screenshot={shot}", page.resolve().as_uri()],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        Image.open(shot).convert("RGB").save(picture, quality=QUALITY, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the demo, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        demo = Path(folder, "demo")
        if command(["demo", "--out", str(demo)]):
            raise SystemExit("The demo failed.")
        page = demo / "report.html"
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(str(demo.resolve()), "demo"), encoding="utf-8")
        photograph(page, options.out / "report.jpg")
    heat_maps.main(["--out", str(options.out / "heat-maps.jpg")])
    for picture in ("report.jpg", "heat-maps.jpg"):
        print(f"{options.out / picture}: {(options.out / picture).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
