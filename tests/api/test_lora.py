import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supervisor.adapters.manifest import Manifest
from supervisor.adapters.store import AdapterStore, file_records
from tests.api.stage import ADAPTER, in_process

pytestmark = pytest.mark.anyio


def made(store: AdapterStore, adapter: str = ADAPTER) -> str:
    """A new whole version of the adapter, which is made current."""
    version = store.next_version(adapter)
    staged = store.stage(adapter, version)
    (staged / "adapter.gguf").write_bytes(b"weights" * 500_000)
    manifest = Manifest(
        adapter=adapter,
        version=version,
        parent=None,
        created=datetime.now(UTC),
        base_model="tiny-chat",
        base_digest="0" * 64,
        lesson_id=None,
        step=1,
        lora={},
        training={},
        code_version="1",
        files=file_records(staged),
    )
    store.commit(staged, manifest)
    store.promote(adapter, version)
    return version


async def test_adapters_are_listed_by_prefix_the_served_one_even_before_its_first_version(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        made(stage.context.adapters, "someone/else")
        everything = (await stage.client.get("/v1/lora")).json()
        some = (await stage.client.get("/v1/lora", params={"prefix": "openclaw/"})).json()

    assert everything == {"loras": [ADAPTER, "someone/else"]}
    assert some == {"loras": [ADAPTER]}


async def test_the_current_version_can_be_taken_along_whole(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        made(stage.context.adapters)
        reply = await stage.client.get("/v1/lora/export", params={"lora_id": f"{ADAPTER}-latest"})

    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.testzip() is None
        assert archive.read("adapter.gguf") == b"weights" * 500_000
        assert Manifest.model_validate_json(archive.read("manifest.json")).version == "v0001"
    assert reply.headers["content-disposition"] == 'attachment; filename="openclaw-assistant-v0001.zip"'


async def test_an_adapter_without_versions_or_name_cannot_be_exported(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        unborn = await stage.client.get("/v1/lora/export", params={"lora_id": ADAPTER})
        unknown = await stage.client.get("/v1/lora/export", params={"lora_id": "../../etc"})

    assert unborn.status_code == unknown.status_code == 404
    assert "still is its base model" in unborn.json()["detail"]


async def test_versions_are_listed_with_their_manifests(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        for _ in range(2):
            made(stage.context.adapters)
        stage.context.adapters.promote(ADAPTER, "v0001")
        answer = (await stage.client.get("/v1/lora/versions", params={"lora_id": ADAPTER})).json()

    assert [one["version"] for one in answer["versions"]] == ["v0001", "v0002"]
    assert (answer["current"], answer["served"]) == ("v0001", "v0002")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"lora_id": ADAPTER}, 200, ADAPTER),
        ({"lora_id": f"{ADAPTER}-init", "base_model": "tiny-chat", "lora_r": 32}, 200, "lora_r"),
        ({"lora_id": ADAPTER, "base_model": "evil/model"}, 403, "allowed: Qwen/Qwen3-8B, tiny-chat"),
        ({"lora_id": ADAPTER, "base_model": "Qwen/Qwen3-8B"}, 409, "tiny-chat"),
        ({"lora_id": "user/my-lora"}, 404, "CLAWLAMA_ADAPTER=user/my-lora"),
        ({"lora_id": ADAPTER, "lora_r": 2}, 422, "lora_r"),
    ],
)
async def test_init_says_whether_lessons_on_an_adapter_are_possible(
    tmp_path: Path, body: dict[str, Any], status: int, says: str
) -> None:
    async with in_process(tmp_path) as stage:
        reply = await stage.client.post("/v1/lora/init", json=body)

    assert reply.status_code == status
    assert says in reply.text


async def test_an_adapter_is_deleted_unless_it_is_served(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        made(stage.context.adapters)
        made(stage.context.adapters, "someone/else")
        replies = [
            await stage.client.delete("/v1/lora", params={"lora_id": name})
            for name in (ADAPTER, "someone/else", "someone/else", "no/body", "../..")
        ]

    assert [reply.status_code for reply in replies] == [409, 200, 200, 200, 200]
    assert [reply.json().get("deleted") for reply in replies[1:]] == [True, False, False, False]


async def test_the_served_adapter_without_versions_has_nothing_to_delete(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        reply = await stage.client.delete("/v1/lora", params={"lora_id": ADAPTER})

    assert reply.json() == {"deleted": False}


async def test_an_older_version_can_be_served_again_and_the_bare_base_too(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        store = stage.context.adapters
        first, second = made(store), made(store)
        back = await stage.client.post("/v1/lora/current", json={"lora_id": ADAPTER, "version": first})
        after_back = store.current(ADAPTER)
        bare = await stage.client.post("/v1/lora/current", json={"lora_id": ADAPTER, "version": None})

    assert (second, back.json()["current"], bare.json()["current"]) == ("v0002", "v0001", None)
    assert after_back is not None
    assert after_back.manifest.version == "v0001"
    assert stage.context.engine.served.version is None
    assert store.current(ADAPTER) is None


async def test_a_version_that_does_not_exist_changes_nothing(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        made(stage.context.adapters)
        reply = await stage.client.post("/v1/lora/current", json={"lora_id": ADAPTER, "version": "v0009"})

        assert reply.status_code == 404
        assert "v0009" in reply.text
        assert stage.context.adapters.current(ADAPTER) is not None
