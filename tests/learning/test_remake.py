"""A version is made again from its manifest and what lies beside it, wherever that lies now."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from supervisor.adapters.manifest import FileRecord
from supervisor.adapters.store import AdapterStore, AdapterVersion, file_record
from supervisor.cli.main import app
from supervisor.distill.job import Sample
from supervisor.errors import AdapterError
from supervisor.executors.local import LocalExecutor
from supervisor.executors.trainer import Warm
from supervisor.learning.inputs import Digests, samples_sha256
from supervisor.learning.lesson import result_of, teach
from supervisor.learning.remake import again, compared, recorded
from supervisor.services.output import Output
from tests.distill.lessons import chat_model
from tests.learning.test_lesson import ADAPTER, classroom, queued, replaced_by


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two versions, moved since they were made; the base model is ``base`` in it."""
    before, now = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("now") / "data"
    anyio.run(two_lessons, before)
    shutil.copytree(before, now, symlinks=True)
    shutil.rmtree(before)
    return now


async def two_lessons(data: Path) -> None:
    base = chat_model(data / "base")
    served = f"sha256:{file_record(base / 'model.gguf').sha256}"
    async with classroom(base, data) as room, anyio.create_task_group() as tg:
        trainer = LocalExecutor(data / "lessons", dict(os.environ), Output("lesson"), str(data), warm=Warm(tg, 60.0))
        known = replace(room.base, digest=served, now=partial(replaced_by, served))
        for text in ("no emojis", "be brief"):
            lesson = await teach(replace(room, executor=trainer, base=known), await queued(room.journal, text))
            assert lesson.error is None
        tg.cancel_scope.cancel()


@pytest.fixture
def store(school: Path) -> AdapterStore:
    return AdapterStore(school / "adapters")


@pytest.fixture
def second(store: AdapterStore) -> AdapterVersion:
    return store.version(ADAPTER, "v0002")


def test_a_lesson_taught_again_from_its_manifest_gives_the_same_bytes(school: Path) -> None:
    words = ["adapters", "--remake", "v0002", "--base", str(school / "base"), "--data", str(school), "--json"]

    ended = CliRunner().invoke(app, words)

    said = json.loads(ended.stdout)
    assert said["same"] == dict.fromkeys(
        ("adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors"), True
    )
    assert said["unlike"] == [f"clawlama: test then, {package_version('clawlama')} now"]
    assert (ended.exit_code, said["apart"]) == (0, {})
    assert not any((school / "lessons").iterdir())


def test_a_manifest_says_what_was_read_and_what_it_was_made_with(second: AdapterVersion) -> None:
    made = second.manifest

    assert made.base_files.keys() == {"model.gguf"}
    assert set(made.adapter_files) == {
        f"{ADAPTER}/v0001/{name}"
        for name in ("adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors")
    }
    assert made.step_before == made.step // 2
    assert {"trainer", "precision", "device", "threads", "seed", "torch", "transformers"} <= made.made_with.keys()


def test_what_is_not_as_it_was_is_named(school: Path, store: AdapterStore, second: AdapterVersion) -> None:
    other = school / "other"
    shutil.copytree(school / "base", other, dirs_exist_ok=True)
    with (other / "model.gguf").open("ab") as file:
        file.write(b"more")
    job = again(store, second, recorded(second), second.folder, [other])
    job = job.model_copy(update={"samples": job.samples[:1] * 2})
    was = result_of(second)
    assert was.made_with is not None
    result = was.model_copy(update={"made_with": was.made_with.model_copy(update={"torch": "9.9"})})

    assert compared(store, second, job, result, code_version="test").unlike == (
        "what was taught is not what the manifest says",
        f"{other / 'model.gguf'}, of the base model, has changed or is gone",
        f"torch: {was.made_with.torch} then, 9.9 now",
    )


def test_a_file_that_came_out_otherwise_is_told_from_the_others(
    school: Path, store: AdapterStore, second: AdapterVersion, tmp_path: Path
) -> None:
    shutil.copytree(second.folder, tmp_path / "out")
    (tmp_path / "out" / "adapter.gguf").write_bytes(b"other")
    (tmp_path / "out" / "optimizer.safetensors").unlink()
    job = again(store, second, recorded(second), tmp_path / "out", [school / "base"])

    same = compared(store, second, job, result_of(second), code_version="test").same

    assert {name for name, alike in same.items() if not alike} == {"adapter.gguf", "optimizer.safetensors"}


def test_a_base_model_that_is_nowhere_is_asked_for(store: AdapterStore, second: AdapterVersion, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"is not at .*/before0/base/model.gguf; say where with --base"):
        again(store, second, recorded(second), tmp_path, [tmp_path / "gone"])


class LaterSample(Sample):
    """As a version of ours to come may have it."""

    weight: float = 1.0


def test_fields_that_came_later_leave_a_recorded_lesson_what_it_is(second: AdapterVersion) -> None:
    job = recorded(second)
    later = tuple(LaterSample.model_validate(sample.model_dump()) for sample in job.samples)

    assert samples_sha256(job.model_copy(update={"samples": later})) == second.manifest.samples_sha256


def test_a_file_of_the_base_is_counted_again_once_it_changes(tmp_path: Path) -> None:
    digests = Digests()
    weights = tmp_path / "model.safetensors"
    weights.write_text("one")
    first = digests.base_files(tmp_path, "sha256:0")

    assert digests.base_files(tmp_path, "sha256:0") == first
    weights.write_text("two!")
    assert digests.base_files(tmp_path, "sha256:0") != first
    assert digests.base_files(weights, "sha256:0") == {"model.safetensors": FileRecord(size=4, sha256="0")}
