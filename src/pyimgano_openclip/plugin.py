"""The entry point ``pyimgano.plugins``, and the detectors that this package registers."""

from _pyimgano_openclip_autoload import DETECTORS
from _pyimgano_openclip_registration import register

__all__ = ["DETECTORS", "register"]
