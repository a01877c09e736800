"""Damaged images and checkpoints by the thousand; only the documented errors may come of them.

    cd tests
    python -m helpers.fuzzing images --count 10000
    python -m helpers.fuzzing checkpoints --count 1 --seed 4711

Every input follows from its seed, so the second command tries one again. A process of its own,
since a decoder may crash or hang: then the folder still holds the last input. Prints JSON.
"""

import argparse
import faulthandler
import json
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pyimgano_openclip.detector.promises import FewImagesWarning
from pyimgano_openclip.images.reading import image_size, read_frame

from helpers.forged import damaged_checkpoint, sound_checkpoints
from helpers.mutations import mutated
from helpers.picture_files import picture_files

HANG = 60  # seconds
MEMORY = 3 * 2**30  # bytes of addresses that reading may take
MOST_PIXELS = 2**22  # beyond them an image is refused, or the forged sizes would take all the time
CANVAS = (32, 48)


@dataclass
class Tried:
    """What came of the inputs."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds
    wrong: list[str] = field(default_factory=list)

    def attempt(self, path: Path, read: Callable[[Path], None], what: str) -> None:
        """Read a file; it may succeed or raise a ValueError that names it."""
        faulthandler.dump_traceback_later(HANG, exit=True)
        start = time.perf_counter()
        try:
            read(path)
            self.read += 1
        except ValueError as error:
            self.refused += 1
            if str(path) not in str(error):
                self.wrong.append(f"{what}: the error names no file: {error}")
        except BaseException:  # noqa: BLE001 - whatever it is, it is noted
            self.wrong.append(f"{what}: {traceback.format_exc(limit=-3)}")
        finally:
            self.slowest = max(self.slowest, time.perf_counter() - start)
            faulthandler.cancel_dump_traceback_later()


def damaged_images(folder: Path, seeds: range) -> Iterator[tuple[Path, str]]:
    """Write one damaged image after the other."""
    files = picture_files()
    names, contents = list(files), list(files.values())
    for seed in seeds:
        name = names[seed % len(names)]
        path = folder / f"damaged {name}"
        path.write_bytes(mutated(files[name], contents, seed))
        yield path, f"seed {seed}, {name}"


def read_image(path: Path) -> None:
    """Read an image as a detector does; what comes out has to be an image."""
    size = image_size(path)
    frame = read_frame(path, CANVAS)
    assert frame.pixels.shape == (*CANVAS, 3)
    assert frame.pixels.dtype == np.uint8
    assert frame.size == size
    assert min(size) > 0


def fuzz_images(folder: Path, seeds: range) -> Tried:
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2
    tried = Tried()
    for path, what in damaged_images(folder, seeds):
        tried.attempt(path, read_image, what)
    return tried


def fuzz_checkpoints(folder: Path, seeds: range) -> Tried:
    tried, sound = Tried(), sound_checkpoints(folder)
    for seed in seeds:
        kind = sound[seed % len(sound)]
        path = folder / "damaged"
        damaged_checkpoint(kind, path, sound, seed)
        tried.attempt(path, kind.load_and_score, f"seed {seed}, {kind.name}")
    return tried


KINDS = {"images": fuzz_images, "checkpoints": fuzz_checkpoints}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--folder", type=Path, help="where the inputs are written")
    options = parser.parse_args()
    faulthandler.enable()
    # As errors, Pillow's warnings of damage are one more way to fail; not so while Python ends.
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", FewImagesWarning)  # damage may ask for confidence
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder = options.folder or Path(tempfile.mkdtemp())
    start = time.perf_counter()
    tried = KINDS[options.kind](folder, range(options.seed, options.seed + options.count))
    print(
        json.dumps(
            {
                "tried": options.count,
                "read": tried.read,
                "refused": tried.refused,
                "slowest_s": round(tried.slowest, 2),
                "seconds": round(time.perf_counter() - start, 1),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "wrong": tried.wrong[:20],
            }
        )
    )
    return bool(tried.wrong)


if __name__ == "__main__":
    sys.exit(main())
