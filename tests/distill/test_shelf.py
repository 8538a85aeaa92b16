"""One base model is kept between lessons, and lessons do not notice."""

import os
import weakref
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from supervisor.distill.lesson import run_lesson
from supervisor.distill.shelf import Shelf, files_key
from tests.distill.lessons import chat_model, job


class Model:
    """Something that can be gone, though it refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def silent(_fraction: float, _step: str) -> None:
    pass


def test_what_was_loaded_is_kept_under_its_key() -> None:
    shelf = Shelf()

    assert shelf.take("a", Model) is shelf.take("a", Model)


def test_the_old_one_is_gone_before_the_new_one_is_loaded() -> None:
    shelf = Shelf()
    old = weakref.ref(shelf.take("a", Model))

    assert shelf.take("b", old) is None


def test_a_load_that_fails_leaves_nothing() -> None:
    shelf = Shelf()
    shelf.take("a", Model)

    with pytest.raises(ZeroDivisionError):
        shelf.take("b", lambda: 1 // 0)

    assert shelf.take("a", lambda: "loaded anew") == "loaded anew"


@pytest.mark.parametrize("inside", ["", "model.gguf"])
def test_a_changed_file_has_another_key(tmp_path: Path, inside: str) -> None:
    (tmp_path / "model.gguf").write_text("one")
    before = files_key(tmp_path / inside)

    assert files_key(tmp_path / inside) == before
    os.utime(tmp_path / "model.gguf", ns=(1, 1))
    assert files_key(tmp_path / inside) != before


def test_a_lesson_on_a_kept_base_gives_the_bytes_of_one_on_a_fresh_base(tmp_path: Path) -> None:
    base = chat_model(tmp_path / "base")
    shelf = Shelf()
    run_lesson(job(base, tmp_path / "v1", seed=3, rounds=2), silent, shelf=shelf)
    parent = tmp_path / "v1"

    cold = run_lesson(job(base, tmp_path / "cold", parent=parent, rounds=2), silent)
    warm = run_lesson(job(base, tmp_path / "warm", parent=parent, rounds=2), silent, shelf=shelf)

    for path in (tmp_path / "cold").iterdir():
        assert path.read_bytes() == (tmp_path / "warm" / path.name).read_bytes(), path.name
    assert (cold.probes, cold.metrics, cold.made_with) == (warm.probes, warm.metrics, warm.made_with)
    assert warm.seconds["load"] < cold.seconds["load"]


def test_a_base_that_was_replaced_is_loaded_anew(tmp_path: Path) -> None:
    base, shelf = chat_model(tmp_path / "base"), Shelf()
    run_lesson(job(base, tmp_path / "v1"), silent, shelf=shelf)
    weights = base / "model.safetensors"
    save_file({name: 1.1 * tensor for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})

    warm = run_lesson(job(base, tmp_path / "warm"), silent, shelf=shelf)

    assert warm.probes == run_lesson(job(base, tmp_path / "cold"), silent).probes
