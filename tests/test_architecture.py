"""Which part may know which: the order of the packages, and where heavy or optional libraries may appear."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "supervisor"

# A part may import itself and what stands before it.
ORDER = (
    "errors",
    "redact",  # what no log may hold: the first thing that a log needs
    "log",
    "terminal",  # where we print, whoever reads or does not
    "identity",  # who we run as, settled before anything else
    "host",
    "settings",
    "adapters",  # stands alone: engines, API and CLI read versions too, so it cannot be a part of learning
    "plan",
    "render",
    "services",
    "packs",  # what a GPU needs and the image does not bring
    "gateway",  # OpenClaw, the program we run and talk to: needs rendered files and a way to start processes
    "running",  # how commands find a supervisor that is up; less than boot, which writes the same file
    "engines",
    "stack",
    "preflight",  # what `up` and `doctor` both look at before anything starts
    "serving",  # from a chosen model to an engine that serves it, whichever engine that is
    "ollama_serving",  # the one that needs Ollama's client
    "openclaw",  # OpenClaw as a service of ours: its files and its process
    "made",  # what the settings make, before anything runs
    "journal",
    "api",
    "evals",
    "distill.job",
    "executors",
    "learning",
    "backup",
    "dashboard",
    "control",  # what the API may do with the service tree
    "reload",  # settings that are followed while everything runs
    "start",  # what the health check says, from the pull to the lesson under way
    "first_turn",  # taken by ourselves after a start
    "front",  # journal, API and learning: loaded while the engine starts
    "assistant",  # joins all that runs
    "boot",
    "cli",
    "__main__",
)

# In engines/: what all engines share. Any other name there, up to its first underscore, is an engine of its own.
SHARED_BY_ENGINES = {"engine", "door", "stream"}
CHOOSES_AN_ENGINE = "choose"

PURE = ("plan.decide", "plan.plan", "render.render", "services.restart", "learning.gate", "distill.loss")
IMPURE = {
    "anyio",
    "asyncio",
    "httpx",
    "os",
    "psutil",
    "random",
    "secrets",
    "shutil",
    "socket",
    "structlog",
    "subprocess",
}

HOMES = {  # library: the only modules that may import it, at any depth
    "torch": "distill.",
    "transformers": "distill.",
    "peft": "distill.",
    "safetensors": "distill.",
    "gguf": "distill.",
    "numpy": "distill.",
    "xllamacpp": "engines.llama_server",
    "sqlalchemy": "journal.",
    "alembic": "journal.",
    "pynvml": "host.nvml",
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name, without the package's own."""
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


@cache
def imports(module: str) -> frozenset[str]:
    """Everything a module imports, wherever in the file, as dotted names."""
    return frozenset(imported(ast.parse(modules()[module].read_text()), module))


def imported(tree: ast.Module, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges() -> Iterator[tuple[str, str]]:
    """(importer, imported) for every import of a module of ours by another."""
    for module in modules():
        for name in imports(module):
            if name.startswith("supervisor."):
                short = name.removeprefix("supervisor.")
                yield module, short if short in modules() else short.rpartition(".")[0]


def part(module: str) -> str:
    """The name in ORDER that a module belongs to; ``distill`` for the trainer, which has no place there."""
    return module if module == "distill.job" else module.partition(".")[0]


def engine_of(module: str) -> str:
    return module.split(".")[1].partition("_")[0]


def test_every_part_has_its_place_in_the_order() -> None:
    assert {part(module) for module in modules()} - {"__init__", "distill"} <= set(ORDER)


def test_a_module_imports_only_what_comes_before_it() -> None:
    rank = {name: place for place, name in enumerate(ORDER)}
    later = {
        f"{module} imports {other}"
        for module, other in edges()
        if "distill" not in {part(module), part(other)} and rank[part(other)] > rank[part(module)]
    }

    assert not later


def test_the_trainer_knows_nothing_but_the_errors() -> None:
    outside = {
        f"{module} imports {other}"
        for module, other in edges()
        if module.startswith("distill.") and not other.startswith("distill.") and other != "errors"
    }

    assert not outside


def test_nobody_but_the_trainer_imports_more_of_it_than_the_job() -> None:
    inside = {
        f"{module} imports {other}"
        for module, other in edges()
        if not module.startswith("distill.") and part(other) == "distill"
    }

    assert not inside


def test_an_engine_knows_no_other_engine() -> None:
    among = [(a, b) for a, b in edges() if a.startswith("engines.") and b.startswith("engines.")]
    crossing = {
        f"{module} imports {other}"
        for module, other in among
        if engine_of(module) != CHOOSES_AN_ENGINE and engine_of(other) not in {*SHARED_BY_ENGINES, engine_of(module)}
    }

    assert not crossing


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_stays_where_it_belongs(library: str) -> None:
    users = {module for module in modules() if any(name.partition(".")[0] == library for name in imports(module))}

    assert all(module.startswith(HOMES[library]) for module in users), users


@pytest.mark.parametrize("module", PURE)
def test_a_decision_takes_values_and_gives_values(module: str) -> None:
    assert not {name.partition(".")[0] for name in imports(module)} & IMPURE


def test_a_module_is_short_enough_to_read() -> None:
    lines = {module: len(path.read_text().splitlines()) for module, path in modules().items()}

    assert {module: count for module, count in lines.items() if count > 400} == {}


def test_a_name_says_what_it_is() -> None:
    assert not [module for module in modules() if VAGUE & set(module.split("."))]


def test_package_files_are_empty() -> None:
    assert not [module for module, path in modules().items() if path.name == "__init__.py" and path.read_text()]


@pytest.mark.parametrize("module", ["supervisor.boot", "supervisor.cli.main"])
def test_starting_loads_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "peft", "xllamacpp", "modal", "ray", "tinker", "numpy"]
    code = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"

    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ended.stderr, ended.stdout.strip()) == ("", "")


def test_only_clawlama_provides_the_package() -> None:
    # The supervisord project installs a package of the same name: with both, one overwrites the other.
    assert set(packages_distributions().get("supervisor", [])) <= {"clawlama"}
    assert distribution("clawlama").version, "install the checkout with scripts/setup"
