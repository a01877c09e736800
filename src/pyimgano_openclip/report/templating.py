"""Renders the templates of this package; all values are escaped."""

from __future__ import annotations

from typing import Any


def render(template: str, **values: Any) -> str:
    """Render a file from the folder ``templates``.

    Args:
        template: Name of the file.
        values: Values of the variables in the template.
    """
    # Jinja2 is imported only when a page is written.
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
