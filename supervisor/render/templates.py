"""Finds the templates, in a checkout and in an installed wheel, and fills them with no name left undefined."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound, select_autoescape

import supervisor
from supervisor.errors import RenderError


def templates_folder() -> Path:
    """``supervisor/_templates`` of a wheel, else ``templates/`` beside it. RenderError when neither is there."""
    package = Path(supervisor.__file__).parent
    for folder in (package / "_templates", package.parent / "templates"):
        if folder.is_dir():
            return folder
    raise RenderError(f"templates not found beside {package}; the installation is incomplete, install clawlama again")


def fill(name: str, values: Mapping[str, object]) -> str:
    """The template ``name`` (a path below that folder) with these values. RenderError names what is missing."""
    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        undefined=StrictUndefined,
        autoescape=select_autoescape(("html.j2",), default=False),  # JSON values go through tojson
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    try:
        return environment.get_template(name).render(values)
    except TemplateNotFound as exc:
        raise RenderError(f"template {exc.name} is not in {templates_folder()}") from exc
    except (TemplateError, TypeError) as exc:  # a name that is missing reaches tojson as a TypeError
        raise RenderError(f"template {name}: {exc}; give every name it uses a value that JSON can hold") from exc
