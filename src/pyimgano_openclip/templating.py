"""The templates of this package, filled in; every value is escaped."""

from __future__ import annotations

from typing import Any


def render(template: str, **values: Any) -> str:
    """Fill in a file of ``templates/``.

    Args:
        template: Its name.
        values: By the names that it uses.
    """
    # Loading Jinja2 is only worth it where a page is written.
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("pyimgano_openclip", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
