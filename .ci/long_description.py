"""The README as the long description of a distribution, whose page has no files beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link or a picture that leads to a file of the source tree.
RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")


class LongDescription(MetadataHookInterface):
    """Fills in the field ``readme``, which pyproject.toml calls dynamic."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Take the README with links that work anywhere."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        tree = metadata.get("urls", {}).get("Source", "")
        text = without_relative_links(readme, tree.rstrip("/"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def without_relative_links(readme: str, tree: str = "") -> str:
    """Make links to files absolute; without an address, texts stay and pictures go.

    Args:
        readme: In Markdown.
        tree: Address of the source repository, as on GitHub or GitLab.
    """

    def changed(found: re.Match[str]) -> str:
        picture, text, path = found.groups()
        if not tree:
            return "" if picture else text
        return f"{picture}[{text}]({tree}/{'raw' if picture else 'blob'}/HEAD/{path})"

    return RELATIVE.sub(changed, readme)
