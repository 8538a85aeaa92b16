"""A version reaches a server by the way that this server takes, and only what serves counts as published."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from supervisor.engines.engine import Version
from supervisor.engines.ollama.publish import repository
from supervisor.engines.ollama.routes import Order, Reach, by_merge, check_room
from supervisor.engines.ollama.store import Store
from supervisor.errors import EngineError, NotServed
from tests.contract.ollama.adapters import write_adapter
from tests.distill.llama_server import served
from tests.engines.models import Trained
from tests.engines.ollama.desk import ADAPTER, BASE, OURS, PARAMETERS, PROMPT, Desk, desk, version
from tests.fakes.ollama.server import TINY_CHAT

pytestmark = pytest.mark.anyio


def routes(place: Desk) -> list[str]:
    """What worked, by the record."""
    return list(json.loads((place.folder / "ollama.json").read_text())["routes"].values())


async def reference(model: Trained, adapter: Path) -> str:
    """What llama.cpp itself says with this adapter."""
    async with served(model.base / "model.gguf", adapter) as engine:
        answer = await engine.post("/completion", {"prompt": PROMPT, "temperature": 0.0, "n_predict": 8})
        return str(answer["content"])


@pytest.mark.parametrize(
    ("choice", "layout"),
    [("create", "manifests"), ("manifest", "manifests"), ("manifest", "manifests-v2"), ("merge", "manifests-v2")],
)
async def test_each_way_serves_the_trained_model(choice: str, layout: str, model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path, layout=layout) as place:
        tag = await place.publisher(choice).publish(version(model, tmp_path), place.switch, place.live)

        assert tag == f"{OURS}:v0001"
        assert await place.says(tag) == await reference(model, model.version.gguf) != place.bare
        assert await place.says(f"{OURS}:latest") == await place.says(tag)
        assert await place.says(BASE) == place.bare
        assert routes(place) == [choice]


@pytest.mark.parametrize(
    ("choice", "store"), [("create", True), ("create", False), ("manifest", True), ("merge", True)]
)
async def test_a_tag_keeps_what_its_base_says_and_gets_our_parameters(
    choice: str, store: bool, model: Trained, tmp_path: Path
) -> None:
    async with desk(model, tmp_path) as place:
        tag = await place.publisher(choice, store=store).publish(version(model, tmp_path), place.switch, place.live)

        stored, base = Store(place.server.models).read(tag), Store(place.server.models).read(BASE)
        assert stored.parameters == {"top_k": 7, **PARAMETERS}
        assert (stored.system, stored.license, stored.template) == (base.system, base.license, base.template)
        assert len(stored.adapters) == (0 if choice == "merge" else 1)
        assert stored.config["model_family"] == base.config["model_family"]


@pytest.mark.parametrize(
    ("adapters", "store", "way"),
    [
        ("accept", True, "create"),
        ("refuse", True, "manifest"),
        ("ignore", True, "merge"),
        ("no_load", True, "merge"),
        ("accept", False, "create"),
    ],
)
async def test_the_first_way_that_proves_live_is_taken(
    adapters: str, store: bool, way: str, model: Trained, tmp_path: Path
) -> None:
    async with desk(model, tmp_path, adapters=adapters) as place:
        tag = await place.publisher(store=store).publish(version(model, tmp_path), place.switch, place.live)

        assert await place.says(tag) != place.bare
        assert routes(place) == [way]


async def test_a_way_that_worked_is_tried_first_the_next_time(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path, adapters="ignore") as place:
        publisher = place.publisher()
        await publisher.publish(version(model, tmp_path), place.switch, place.live)
        place.served.clear()

        await publisher.publish(version(model, tmp_path, 2), place.switch, place.live)

        assert place.served == [f"{OURS}:v0002"]


async def test_a_way_that_fails_now_is_forgotten_and_the_others_are_tried(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        await place.publisher().publish(version(model, tmp_path), place.switch, place.live)
        assert routes(place) == ["create"]

        await place.server.quirks(adapters="refuse")
        await place.publisher().publish(version(model, tmp_path, 2), place.switch, place.live)

        assert routes(place) == ["manifest"]


async def test_when_no_way_works_each_answer_is_told(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path, adapters="refuse") as place:
        with pytest.raises(
            EngineError, match=r"create: LoRA adapters are no longer.*manifest: .*merge: .*OLLAMA_MODELS"
        ):
            await place.publisher(store=False).publish(version(model, tmp_path), place.switch, place.live)

        assert place.served == []


async def test_what_never_proves_live_is_not_served_whatever_the_server_says(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        place.believes = False
        with pytest.raises(
            NotServed, match=r"create: the server took .* not the trained model.*merge: the server took"
        ):
            await place.publisher().publish(version(model, tmp_path), place.switch, place.live)

        assert routes(place) == []


async def test_a_tag_of_the_same_parts_is_used_again(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        await place.publisher().publish(version(model, tmp_path), place.switch, place.live)
        made = Store(place.server.models).digest(f"{OURS}:v0001")
        await place.server.quirks(adapters="refuse")

        await place.publisher("create").publish(version(model, tmp_path), place.switch)

        assert Store(place.server.models).digest(f"{OURS}:v0001") == made


async def test_changed_parameters_make_the_tags_anew(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        publisher = place.publisher()
        await publisher.base_tag()
        await publisher.publish(version(model, tmp_path), place.switch)

        publisher.parameters = {"num_ctx": 256, "num_thread": 1}
        base, tag = await publisher.base_tag(), await publisher.publish(version(model, tmp_path), place.switch)

        for one in (base, tag, f"{OURS}:latest"):
            assert Store(place.server.models).read(one).parameters["num_ctx"] == 256
        assert len(Store(place.server.models).read(tag).adapters) == 1


async def test_the_bare_base_is_published_under_a_tag_of_ours(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path, adapters="refuse") as place:
        tag = await place.publisher().publish(None, place.switch)

        assert (tag, place.serving) == (f"{OURS}:base", f"{OURS}:base")
        assert await place.says(f"{OURS}:latest") == place.bare


@pytest.mark.parametrize("choice", ["create", "manifest", "merge"])
async def test_old_versions_go_and_the_newest_and_the_serving_one_stay(
    choice: str, model: Trained, tmp_path: Path
) -> None:
    async with desk(model, tmp_path, env={"OLLAMA_NOPRUNE": "1"}) as place:
        publisher = place.publisher(choice)
        for number in (2, 3, 4, 1):
            await publisher.publish(version(model, tmp_path, number), place.switch, place.live)

        await publisher.prune(keep=1)

        ours = {tag for tag in await place.tags() if tag.startswith(OURS)}
        assert ours == {f"{OURS}:v0001", f"{OURS}:v0004", f"{OURS}:latest"}
        assert place.unused == set()
        assert await place.says(BASE) == place.bare


async def test_a_tag_that_somebody_else_made_is_left_alone(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        await place.client.copy(BASE, f"{OURS}:v0001")

        with pytest.raises(EngineError, match=r"did not make.*ollama rm"):
            await place.publisher().publish(version(model, tmp_path), place.switch, place.live)

        assert await place.says(f"{OURS}:v0001") == place.bare


async def test_a_version_answers_all_the_while_the_server_writes_the_next_tag_in_place(
    model: Trained, tmp_path: Path
) -> None:
    async with desk(model, tmp_path, torn_seconds=0.2) as place, anyio.create_task_group() as tasks:
        publisher = place.publisher(store=False)
        first = await publisher.publish(version(model, tmp_path), place.switch, place.live)
        answer = await place.says(first)

        async def ask() -> None:
            while True:
                assert await place.says(first) == answer

        tasks.start_soon(ask)
        second = await publisher.publish(version(model, tmp_path, 2), place.switch, place.live)
        tasks.cancel_scope.cancel()

        with anyio.CancelScope(shield=True):
            assert await place.says(f"{OURS}:latest") == await place.says(second)


async def test_an_alias_of_somebody_else_is_left_alone_and_ours_serve(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        await place.client.copy(BASE, f"{OURS}:latest")

        await place.publisher().publish(version(model, tmp_path), place.switch, place.live)

        assert await place.says(f"{OURS}:latest") == place.bare
        assert place.serving == f"{OURS}:v0001"


async def test_a_base_that_is_gone_is_an_error_that_says_so(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        publisher = place.publisher()
        await place.client.delete(BASE)

        with pytest.raises(EngineError, match="no model 'small' any more"):
            await publisher.publish(version(model, tmp_path), place.switch, place.live)


async def test_a_base_that_was_pulled_anew_is_not_mixed_with_what_was_learned_before(
    model: Trained, tmp_path: Path
) -> None:
    async with desk(model, tmp_path) as place:
        publisher = place.publisher()
        await publisher.base_tag()
        await place.client.create(model=BASE, from_=BASE, system="Another one.")

        with pytest.raises(EngineError, match=r"pulled anew or replaced.*restart clawlama"):
            await publisher.publish(version(model, tmp_path), place.switch, place.live)


async def test_a_way_that_was_not_it_leaves_no_blobs_behind(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path, {"OLLAMA_NOPRUNE": "1"}, adapters="ignore") as place:
        await place.publisher().publish(version(model, tmp_path), place.switch, place.live)

        assert routes(place) == ["merge"]
        assert place.unused == set()


async def test_an_adapter_of_another_base_is_found_before_the_server_has_it(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        other = write_adapter(tmp_path / "v0001.gguf", TINY_CHAT)

        with pytest.raises(EngineError, match="another base's"):
            await place.publisher().publish(Version("v0001", other), place.switch, place.live)

        assert place.served == []
        assert not {tag for tag in await place.tags() if tag.startswith(OURS)}


async def test_a_server_that_is_gone_is_told_at_once(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        publisher = place.publisher()
        await place.server.kill()

        with pytest.raises(EngineError, match="Ollama does not answer"):
            await publisher.publish(version(model, tmp_path), place.switch, place.live)


async def test_merging_asks_for_room_first(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"need .* GB and .* free; make room there"):
        check_room(tmp_path, 2**60)


async def test_merged_weights_are_handed_over_where_the_store_cannot_be_written(model: Trained, tmp_path: Path) -> None:
    async with desk(model, tmp_path) as place:
        store = Store(place.server.models)
        reach = Reach(place.client, store, None, place.merging, tmp_path / "scratch")
        tag = f"{OURS}:v0001"

        await by_merge(reach, Order(tag, BASE, model.version.gguf, PARAMETERS))

        made, base = store.read(tag), store.read(BASE)
        assert await place.says(tag) == await reference(model, model.version.gguf)
        assert (made.parameters, made.system) == ({**base.parameters, **PARAMETERS}, base.system)
        assert list((tmp_path / "scratch").iterdir()) == []


DIE = """
import asyncio, os, sys
from pathlib import Path
import ollama
from supervisor.engines.engine import Version
from supervisor.engines.ollama.merging import Merging
from supervisor.engines.ollama.publish import Publisher, PublishSetup
from supervisor.engines.ollama.store import Store
from supervisor.services.output import Output

url, models, folder, gguf, choice, calls = sys.argv[1:]

async def server():
    return url

async def switch(tag):
    pass

async def main():
    folder_ = Path(folder)
    client = ollama.AsyncClient(url, trust_env=False)
    setup = PublishSetup("small", "openclaw/assistant", choice, folder_ / "ollama.json", folder_ / "scratch", server)
    publisher = Publisher(client, setup, Merging(dict(os.environ), Output("merge"), "test", folder_ / "scratch"))
    publisher.parameters = {"num_ctx": 512, "num_thread": 1}
    publisher.store = Store(Path(models))
    left = [int(calls)]

    def die(event, args):
        opened = event == "open" and set(str(args[1])) & set("wx")
        writes = opened or event in {"os.rename", "os.remove", "os.symlink"}
        if writes and (models in str(args) or folder in str(args)):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), 9)

    sys.addaudithook(die)
    await publisher.publish(Version("v0001", Path(gguf)), switch)

asyncio.run(main())
"""


@pytest.mark.parametrize("choice", ["create", "manifest", "merge"])
async def test_a_death_at_any_step_leaves_a_store_that_works_and_is_cleaned(
    choice: str, model: Trained, tmp_path: Path
) -> None:
    async with desk(model, tmp_path, env={"OLLAMA_NOPRUNE": "1"}) as place:
        made = version(model, tmp_path)
        deaths = 0
        for calls in range(1, 60):
            argv = [sys.executable, "-c", DIE, place.server.url, str(place.server.models), str(tmp_path)]
            argv += [str(made.gguf), choice, str(calls)]
            ended = (await anyio.run_process(argv, check=False, stderr=subprocess.DEVNULL)).returncode
            assert ended in {0, -signal.SIGKILL}
            assert await place.says(BASE) == place.bare
            if ended == 0:
                break
            deaths += 1

        assert deaths > 5
        await place.publisher(choice).publish(made, place.switch, place.live)
        assert await place.says(place.serving) != place.bare
        assert place.unused == set()
        assert not list(place.server.models.rglob("*.clawlama-*"))


@pytest.mark.parametrize(
    ("adapter", "tag"),
    [
        (ADAPTER, OURS),
        ("a/b/c", "clawlama/a-b-c"),
        ("x" * 100, f"clawlama/{'x' * 67}-"),
    ],
)
def test_an_adapter_has_a_name_that_ollama_takes(adapter: str, tag: str) -> None:
    name = repository(adapter)

    assert name.startswith(tag)
    assert len(name) <= len("clawlama/") + 80
    assert repository(adapter + "y") != name
