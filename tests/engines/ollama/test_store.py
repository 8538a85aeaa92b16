"""Ollama's models folder is read as it lies, in either layout, and says what is wrong with it and what to do."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from supervisor.engines.ollama.names import parse_name
from supervisor.engines.ollama.pin import pinned
from supervisor.engines.ollama.store import Store, find_store
from supervisor.engines.ollama.store_write import Shelf, drop_unused
from supervisor.errors import EngineError, StoreError
from tests.engines.models import Trained
from tests.engines.ollama.desk import BASE, desk

IMAGE = "application/vnd.ollama.image."


def blob(store: Store, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    store.blobs.mkdir(parents=True, exist_ok=True)
    (store.blobs / f"sha256-{digest}").write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def manifest(store: Store, *layers: tuple[str, bytes]) -> bytes:
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", **blob(store, b'{"model_family":"qwen3"}')}
    parts = [{"mediaType": IMAGE + kind, **blob(store, content)} for kind, content in layers]
    return json.dumps({"schemaVersion": 2, "config": config, "layers": parts}).encode()


def put(store: Store, where: str, content: bytes) -> Path:
    path = store.root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


SMALL = "manifests/registry.ollama.ai/library/small/latest"


def test_a_model_is_read_with_all_that_it_says(store: Store) -> None:
    content = manifest(
        store,
        ("model", b"GGUF"),
        ("template", b"{{ .Prompt }}"),
        ("system", b"Be kind."),
        ("params", b'{"stop":["<end>"],"top_k":7}'),
        ("license", b"One"),
        ("license", b"Two"),
        ("projector", b"eyes"),
    )
    put(store, SMALL, content)

    found = store.read("small")

    assert found.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert found.weights.read_bytes() == b"GGUF"
    assert found.weights_digest == f"sha256:{hashlib.sha256(b'GGUF').hexdigest()}"
    assert (found.weights_size, found.template, found.system) == (4, "{{ .Prompt }}", "Be kind.")
    assert (found.license, found.parameters) == (("One", "Two"), {"stop": ["<end>"], "top_k": 7})
    assert ([path.read_bytes() for path in found.projectors], found.adapters) == ([b"eyes"], ())
    assert found.config == {"model_family": "qwen3"}


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("small", SMALL),
        ("Small:Latest", SMALL),
        ("library/small", SMALL),
        ("ollama.com/library/small:latest", SMALL),
        ("qwen3:8b", "manifests/registry.ollama.ai/library/qwen3/8b"),
        ("me/mine:v1", "manifests/registry.ollama.ai/me/mine/v1"),
        ("hf.co/Someone/Model-GGUF:Q4_K_M", "manifests/hf.co/Someone/Model-GGUF/Q4_K_M"),
        ("hf.co/someone/model-gguf:q4_k_m", "manifests/hf.co/Someone/Model-GGUF/Q4_K_M"),
        ("host:5000/a/b", "manifests/host:5000/a/b/latest"),
        ("small", "manifests-v2/ollama.com/library/small/latest"),
        ("host:5000/a/b", "manifests-v2/host%3A5000/a/b/latest"),
    ],
)
def test_a_name_is_found_where_ollama_puts_it(store: Store, name: str, where: str) -> None:
    put(store, where, manifest(store, ("model", b"GGUF")))

    assert store.read(name).weights_size == 4


@pytest.mark.parametrize("name", ["", "a b", "../x/y", "a/../b", "a/b/c/d", ":x", "x:", "x" * 81, "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match="is no model name"):
        parse_name(name)


def test_an_entry_of_the_newer_layout_wins_and_may_be_a_link_to_a_blob(store: Store) -> None:
    put(store, SMALL, manifest(store, ("model", b"old")))
    layer = blob(store, manifest(store, ("model", b"newer")))
    link = store.root / "manifests-v2/ollama.com/library/small/latest"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../../../../blobs") / layer["digest"].replace(":", "-"))

    assert store.read("small").weights.read_bytes() == b"newer"


def test_of_a_list_of_manifests_the_one_that_llama_cpp_reads_is_taken(store: Store) -> None:
    listed = [
        {"runner": "mlx", **blob(store, manifest(store, ("model", b"other")))},
        {"runner": "llamacpp", **blob(store, manifest(store, ("model", b"ours")))},
    ]
    put(store, SMALL, json.dumps({"schemaVersion": 2, "manifests": listed}).encode())

    assert store.read("small").weights.read_bytes() == b"ours"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "small/latest is not a manifest.*pull the model again"),
        (b'{"schemaVersion": 2', "is not a manifest"),
        (b'{"config": {}, "layers": []}', "is not a manifest.*fields are wrong"),
        (b"[]", "is not a manifest"),
        (b'{"manifests": [{"digest": "sha256:0", "runner": "mlx"}]}', "no manifest for ollama or llamacpp"),
    ],
)
def test_a_broken_manifest_is_named(store: Store, content: bytes, complaint: str) -> None:
    put(store, SMALL, content)

    with pytest.raises(StoreError, match=complaint):
        store.read("small")


def test_weights_in_several_files_are_refused(store: Store) -> None:
    put(store, SMALL, manifest(store, ("model", b"one"), ("model", b"two")))

    with pytest.raises(StoreError, match="split into several files"):
        store.read("small")


def test_a_model_without_weights_is_refused(store: Store) -> None:
    put(store, SMALL, manifest(store, ("template", b"x")))

    with pytest.raises(StoreError, match="no weights"):
        store.read("small")


def test_a_blob_that_is_gone_is_named(store: Store) -> None:
    put(store, SMALL, manifest(store, ("model", b"GGUF")))
    store.blob(f"sha256:{hashlib.sha256(b'GGUF').hexdigest()}").unlink()

    with pytest.raises(StoreError, match=r"sha256-\w+, a part of small:latest, is missing; pull"):
        store.read("small")


def test_a_model_that_is_not_there_says_where_was_looked(store: Store) -> None:
    with pytest.raises(StoreError, match=r"models holds no model small:latest; .*OLLAMA_MODELS"):
        store.read("small")


def test_the_store_with_the_manifest_that_the_server_reports_is_found(tmp_path: Path) -> None:
    stores = [Store(tmp_path / name) for name in ("empty", "broken", "other", "right")]
    put(stores[1], SMALL, b"{")
    put(stores[2], SMALL, manifest(stores[2], ("model", b"other weights")))
    put(stores[3], SMALL, manifest(stores[3], ("model", b"weights")))

    wanted = stores[3].read("small").digest

    assert find_store([one.root for one in stores], "small", wanted.removeprefix("sha256:")) == stores[3]
    assert find_store([one.root for one in stores[:3]], "small", wanted) is None


@pytest.mark.anyio
@pytest.mark.parametrize("layout", ["manifests", "manifests-v2"])
async def test_a_server_reports_the_digest_that_we_read(layout: str, model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path, layout=layout) as place:
        listed = {one.model: one.digest for one in (await place.client.list()).models}

        found = find_store([tmp_path, place.server.models], BASE, listed[f"{BASE}:latest"])

        assert found is not None
        assert found.read(BASE).weights.read_bytes() == (model.base / "model.gguf").read_bytes()


def test_what_is_added_is_read_back_and_replaces_in_either_layout(store: Store, tmp_path: Path) -> None:
    put(store, SMALL, manifest(store, ("model", b"GGUF")))
    newer = put(store, "manifests-v2/ollama.com/me/mine/latest", manifest(store, ("model", b"GGUF")))
    (tmp_path / "adapter").write_bytes(b"adapter")
    told: list[str] = []
    shelf = Shelf(store, "test", told.append)

    for name in ("me/mine", "me/another"):
        base = store.read("small").manifest
        layer = shelf.add_copy(f"{IMAGE}adapter", tmp_path / "adapter")
        shelf.put_manifest(parse_name(name), base.with_layers([*base.layers, layer], base.config).dump())

        assert [path.read_bytes() for path in store.read(name).adapters] == [b"adapter"]
    assert newer.is_symlink()
    assert f"sha256:{hashlib.sha256(b'adapter').hexdigest()}" in told
    assert not list(store.root.rglob("*.clawlama-*"))


def test_only_blobs_that_nobody_mentions_are_dropped(store: Store) -> None:
    put(store, SMALL, manifest(store, ("model", b"GGUF")))
    unused = blob(store, b"nobody's")["digest"]
    used = store.read("small").weights_digest

    drop_unused(store, {unused, used})

    assert (store.blob(unused).exists(), store.blob(used).exists()) == (False, True)


def test_nothing_is_dropped_while_a_manifest_is_broken(store: Store) -> None:
    put(store, SMALL, b"{")
    unused = blob(store, b"perhaps needed")["digest"]

    drop_unused(store, {unused})

    assert store.blob(unused).exists()


def test_pinned_weights_outlive_their_blob_and_leave_nothing(tmp_path: Path) -> None:
    blob_file, folder = tmp_path / "sha256-1", tmp_path / "pins"
    blob_file.write_bytes(b"weights")
    folder.mkdir()
    (folder / "of-an-earlier-life.gguf").write_bytes(b"")

    with pinned(blob_file, folder) as path:
        assert [one.name for one in folder.iterdir()] == ["sha256-1.gguf"]
        blob_file.unlink()
        assert path.read_bytes() == b"weights"

    assert list(folder.iterdir()) == []


def test_weights_on_another_file_system_are_used_where_they_are(tmp_path: Path) -> None:
    folder = Path(f"/dev/shm/clawlama-test-{os.getpid()}")
    (tmp_path / "sha256-1").write_bytes(b"weights")
    try:
        with pinned(tmp_path / "sha256-1", folder) as path:
            assert path.read_bytes() == b"weights"

        assert list(folder.iterdir()) == []
    finally:
        folder.rmdir()


def test_weights_that_are_gone_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sha256-1 cannot be read"), pinned(tmp_path / "sha256-1", tmp_path / "pins"):
        pass
