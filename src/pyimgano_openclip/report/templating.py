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

    loader = PackageLoader(__package__, "templates")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # Scripts and styles have nothing to fill in, and would take long to compile.
    environment.globals["text"] = lambda name: loader.get_source(environment, name)[0]
    return environment.get_template(template).render(values)
