"""Where things lie in the source tree."""

from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
