"""The Hugging Face hub: its cache, and what to do when it cannot be reached.

Without network, huggingface_hub tries each file six times, which takes 24 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import HfHubHTTPError
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from ..process_wide import ProcessWide

TRIES = 2


def _set_offline(offline: bool) -> None:
    constants.HF_HUB_OFFLINE = offline


_OFFLINE = ProcessWide(lambda: constants.HF_HUB_OFFLINE, _set_offline, neutral=True)


def weights_names(file: str) -> tuple[str, str]:
    """The names under which open_clip looks for weights, the preferred one first.

    Args:
        file: Name of the file; "" for those that open_clip looks for without one.
    """
    safe = file.removesuffix(".bin").removesuffix(".pth") + ".safetensors"
    return (safe, file) if file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)


def cached(repository: str, name: str) -> Path | None:
    """The cached file of a repository, ``"ORG/REPO"``; None if it is not cached."""
    found = try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) else None


def cached_weights(repository: str, file: str) -> list[Path]:
    """The cached files with weights of a repository; ``file`` as for :func:`weights_names`."""
    found = (cached(repository, name) for name in weights_names(file))
    return [path for path in found if path is not None]


def commit_of(file: Path) -> str:
    """The commit that a file in the cache belongs to."""
    # models--ORG--REPO/snapshots/COMMIT/FILE
    (place,) = (n for n, part in enumerate(file.parts) if part.startswith("models--"))
    return file.parts[place + 2]


@contextmanager
def tried_twice(repository: str, names: tuple[str, ...]) -> Iterator[None]:
    """Try twice to reach the hub for a file; without success, use what is cached.

    Args:
        repository: Name of the repository, ``"ORG/REPO"``.
        names: Names of the file, of which any will do, the preferred one first.

    Raises:
        ConnectionError: If the hub cannot be reached and none of the files is cached.
    """
    if constants.HF_HUB_OFFLINE or cached(repository, names[0]):
        yield
        return
    problem = _unreachable(repository, names[0])
    if problem is None:
        yield
        return
    if not any(cached(repository, name) for name in names):
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {problem}") from problem
    with _OFFLINE:
        yield


def _unreachable(repository: str, name: str) -> Exception | None:
    """Why the hub cannot be reached; None if it answers, whatever it says."""
    for _ in range(TRIES):
        try:
            get_hf_file_metadata(hf_hub_url(repository, name))
        except HfHubHTTPError:
            return None  # such as a file that does not exist, or a token that is missing
        except Exception as error:  # noqa: BLE001 - of the HTTP library, which depends on the version
            problem = error
        else:
            return None
    return problem
