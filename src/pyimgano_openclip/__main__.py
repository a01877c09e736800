"""Runs the command line: ``python -m pyimgano_openclip``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
