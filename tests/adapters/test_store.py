import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.adapters.store import AdapterStore, base_name
from supervisor.errors import AdapterError
from tests.adapters.versions import NAME, fill, made, manifest

DIE_WHILE_SEALING = """
import os, sys
from pathlib import Path
from supervisor.adapters import store
from tests.adapters.versions import NAME, fill, manifest

root, calls = Path(sys.argv[1]), int(sys.argv[2])
def die_on(event, args, left=[calls]):
    if event in {"open", "os.rename", "os.mkdir"} and args and str(root) in str(args[0]):
        left[0] -= 1
        if not left[0]:
            os._exit(9)
adapters = store.AdapterStore(root)
staged = fill(adapters.stage(NAME, "v0002"))
sealed = manifest(staged, "v0002")
sys.addaudithook(die_on)
adapters.commit(staged, sealed)
"""

DIE_WHILE_PROMOTING = """
import os, sys
from pathlib import Path
from supervisor.adapters import store
from tests.adapters.versions import NAME

root, calls = Path(sys.argv[1]), int(sys.argv[2])
def die_on(event, args, left=[calls]):
    if event in {"os.symlink", "os.rename", "os.remove"} and args and str(root) in str(args):
        left[0] -= 1
        if not left[0]:
            os._exit(9)
adapters = store.AdapterStore(root)
adapters.bind(sys.argv[3])
sys.addaudithook(die_on)
adapters.promote(NAME, "v0002")
"""


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters")


def test_nothing_learned_is_no_version(store: AdapterStore) -> None:
    assert store.names() == []
    assert store.versions(NAME) == []
    assert store.current(NAME) is None
    assert store.next_version(NAME) == "v0001"


def test_a_committed_version_is_whole_and_does_not_serve_yet(store: AdapterStore) -> None:
    version = made(store, content="abc")

    assert version.gguf.read_text() == "abc"
    assert version.manifest.files["adapter.gguf"].size == 3
    assert version.manifest.files["adapter.gguf"].sha256 == hashlib.sha256(b"abc").hexdigest()
    assert store.version(NAME, "v0001") == version
    assert store.current(NAME) is None


def test_current_follows_promotion_and_goes_away(store: AdapterStore) -> None:
    made(store), made(store)

    for version in ("v0001", "v0002", "v0001"):
        store.promote(NAME, version)
        current = store.current(NAME)
        assert current is not None
        assert current.manifest.version == version
    store.promote(NAME, None)
    assert store.current(NAME) is None


BIG, SMALL = f"sha256:{'b' * 64}", f"sha256:{'5' * 64}"


def serving(store: AdapterStore) -> str | None:
    current = store.current(NAME)
    return current.manifest.version if current else None


def test_each_base_model_has_its_own_versions_and_its_own_current(store: AdapterStore) -> None:
    store.bind(SMALL)
    made(store, base_digest=SMALL)
    store.promote(NAME, "v0001")

    store.bind(BIG)
    assert (store.versions(NAME), serving(store)) == ([], None)
    made(store, base_digest=BIG)
    store.promote(NAME, "v0002")

    store.bind(SMALL)
    assert [one.manifest.version for one in store.versions(NAME)] == ["v0001"]
    assert [one.manifest.version for one in store.of_other_bases(NAME)] == ["v0002"]
    assert serving(store) == "v0001"
    assert store.next_version(NAME) == "v0003"


def test_going_back_to_the_bare_model_leaves_other_models_what_they_learned(store: AdapterStore) -> None:
    for base in (SMALL, BIG):
        store.bind(base)
        store.promote(NAME, made(store, base_digest=base).manifest.version)

    store.promote(NAME, None)

    assert serving(store) is None
    store.bind(SMALL)
    assert serving(store) == "v0001"


def test_a_version_of_another_base_is_refused_with_the_way_back(store: AdapterStore) -> None:
    made(store, base_digest=SMALL)
    store.bind(BIG)

    for use in (store.version, store.promote):
        with pytest.raises(AdapterError, match=r"learned on tiny-chat .*set CLAWLAMA_MODEL back"):
            use(NAME, "v0001")


def test_what_was_learned_on_a_model_that_was_replaced_meanwhile_is_refused(store: AdapterStore) -> None:
    store.bind(SMALL)

    store.check_base(SMALL)
    with pytest.raises(AdapterError, match="restart clawlama"):
        store.check_base(BIG)
    with pytest.raises(AdapterError, match="restart clawlama"):
        made(store, base_digest=BIG)


def older_store(store: AdapterStore) -> AdapterStore:
    """As it was when there was one link for all bases."""
    made(store, base_digest=SMALL), made(store, base_digest=SMALL)
    (store.home(NAME) / "current").symlink_to("v0001")
    return store


def test_the_link_of_an_older_store_counts_for_the_base_of_its_target(store: AdapterStore) -> None:
    older_store(store)

    assert serving(store) == "v0001"
    store.bind(BIG)
    assert serving(store) is None
    store.bind(SMALL)
    assert serving(store) == "v0001"


@pytest.mark.parametrize(("promoted", "then"), [("v0002", "v0002"), (None, None)])
def test_the_link_of_an_older_store_is_replaced_by_the_first_promotion(
    store: AdapterStore, promoted: str | None, then: str | None
) -> None:
    older_store(store).bind(SMALL)

    store.promote(NAME, promoted)

    assert serving(store) == then
    assert not (store.home(NAME) / "current").is_symlink()


def test_another_base_takes_over_an_older_link_without_losing_it(store: AdapterStore) -> None:
    older_store(store).bind(BIG)
    made(store, base_digest=BIG)

    store.promote(NAME, "v0003")

    assert serving(store) == "v0003"
    store.bind(SMALL)
    assert serving(store) == "v0001"


@pytest.mark.parametrize("calls", range(1, 7))
def test_a_death_while_an_older_link_is_replaced_leaves_one_of_both_serving(store: AdapterStore, calls: int) -> None:
    older_store(store).bind(SMALL)
    argv = [sys.executable, "-c", DIE_WHILE_PROMOTING, str(store.root), str(calls), SMALL]

    subprocess.run(argv, cwd=Path(__file__).parents[2], check=False)

    assert serving(store) in {"v0001", "v0002"}
    store.promote(NAME, "v0002")
    assert serving(store) == "v0002"


def test_taking_away_what_never_served_changes_nothing(store: AdapterStore) -> None:
    store.promote(NAME, None)

    assert not store.root.exists()


def test_only_a_whole_version_can_serve(store: AdapterStore) -> None:
    made(store)
    fill(store.stage(NAME, "v0002"))

    with pytest.raises(AdapterError, match="has no version 'v0002'"):
        store.promote(NAME, "v0002")
    assert store.current(NAME) is None


def test_a_staged_version_is_invisible_until_it_is_committed(store: AdapterStore) -> None:
    staged = fill(store.stage(NAME, "v0001"))
    (staged / "manifest.json").write_text(manifest(staged, "v0001").model_dump_json())

    assert store.names() == []
    assert store.versions(NAME) == []


def test_leftovers_of_an_earlier_attempt_are_dropped(store: AdapterStore) -> None:
    fill(store.stage(NAME, "v0001"))

    assert list(store.stage(NAME, "v0001").iterdir()) == []


@pytest.mark.parametrize("calls", range(1, 8))
def test_a_death_at_any_step_leaves_a_version_whole_or_absent(store: AdapterStore, calls: int) -> None:
    made(store)
    store.promote(NAME, "v0001")
    argv = [sys.executable, "-c", DIE_WHILE_SEALING, str(store.root), str(calls)]

    died = subprocess.run(argv, cwd=Path(__file__).parents[2], check=False).returncode == 9

    assert died
    current = store.current(NAME)
    assert current is not None
    assert current.manifest.version == "v0001"
    assert {version.gguf.read_text() for version in store.versions(NAME)} == {"weights"}
    assert made(store).manifest.version in {"v0002", "v0003"}


def test_a_version_is_never_overwritten(store: AdapterStore) -> None:
    made(store, content="first")
    staged = fill(store.stage(NAME, "v0001"), "second")

    with pytest.raises(AdapterError, match="v0001 exists already and is never overwritten"):
        store.commit(staged, manifest(staged, "v0001"))
    assert store.version(NAME, "v0001").gguf.read_text() == "first"


def test_a_version_that_never_served_keeps_its_number(store: AdapterStore) -> None:
    made(store), made(store)
    store.promote(NAME, "v0001")

    assert store.next_version(NAME) == "v0003"


def test_versions_are_in_the_order_of_their_numbers(store: AdapterStore) -> None:
    for version in ("v10000", "v0002", "v9999"):
        staged = fill(store.stage(NAME, version))
        store.commit(staged, manifest(staged, version))

    assert [one.manifest.version for one in store.versions(NAME)] == ["v0002", "v9999", "v10000"]
    assert store.next_version(NAME) == "v10001"


def test_names_are_listed_by_how_they_begin(store: AdapterStore) -> None:
    for name in ("plain", "user/one", "user/two", "my.staging"):
        made(store, name)

    assert store.names() == ["my.staging", "plain", "user/one", "user/two"]
    assert store.names("user/") == ["user/one", "user/two"]


def test_deleting_takes_all_versions_and_the_link(store: AdapterStore) -> None:
    made(store), made(store)
    store.promote(NAME, "v0002")

    assert store.delete(NAME)

    assert (store.names(), store.current(NAME)) == ([], None)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert not store.delete(NAME)


def test_deleting_spares_an_adapter_whose_name_goes_on(store: AdapterStore) -> None:
    made(store, "user"), made(store, "user/two")

    store.delete("user")

    assert store.names() == ["user/two"]
    assert store.version("user/two", "v0001").gguf.read_text() == "weights"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../x",
            "a/../../b",
            "/etc/passwd",
            "a//b",
            "a/",
            ".staging",
            "a/.staging",
            "a b",
            "a\n",
            "a\0b",
        ),
        *(
            "v0001",
            "a/v0001",
            "a/v0001/b",
            "current",
            "a/current",
            "a/current-0123456789ab",
            "ä",
            "x" * 101,
            "/".join("abcdefghijk"),
        ),
    ],
)
def test_a_name_that_could_leave_or_confuse_the_root_is_refused(store: AdapterStore, name: str) -> None:
    made(store, "a")

    for use in (store.current, store.versions, store.next_version, store.delete):
        with pytest.raises(AdapterError, match="is not usable"):
            use(name)
    assert store.names() == ["a"]


@pytest.mark.parametrize("name", ["a", "openclaw/assistant", "User_1/my-lora.v2", "1/2/3", "v001", "x" * 100])
def test_an_ordinary_name_is_usable(store: AdapterStore, name: str) -> None:
    made(store, name)
    store.promote(name, "v0001")

    assert store.names() == [name]


@pytest.mark.parametrize("version", ["", "v1", "0001", "../v0001", "v0001/", "v0001\n", "current"])
def test_a_version_that_is_no_version_name_is_refused(store: AdapterStore, version: str) -> None:
    made(store)

    with pytest.raises(AdapterError, match="is no version name"):
        store.version(NAME, version)


@pytest.mark.parametrize("text", ["", "{}", '{"adapter": "x", "surprise": 1}'])
def test_a_broken_manifest_is_named(store: AdapterStore, text: str) -> None:
    path = made(store).folder / "manifest.json"
    path.write_text(text)

    with pytest.raises(AdapterError, match=r"v0001/manifest\.json does not parse"):
        store.versions(NAME)


def test_a_link_to_a_version_that_is_gone_is_an_error_and_not_the_bare_base(store: AdapterStore) -> None:
    made(store)
    (store.home(NAME) / "current").symlink_to("v0009")

    with pytest.raises(AdapterError, match="has no version 'v0009'"):
        store.current(NAME)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("openclaw/assistant-latest", NAME), ("user/my-lora-init", "user/my-lora"), ("latest", "latest"), (NAME, NAME)],
)
def test_older_ways_to_write_a_name_mean_the_same(name: str, meant: str) -> None:
    assert base_name(name) == meant


def test_a_manifest_of_the_first_schema_is_read(tmp_path: Path) -> None:
    version = made(AdapterStore(tmp_path))
    path = version.folder / "manifest.json"
    later = {"step_before", "samples_sha256", "base_files", "adapter_files", "made_with"}
    old = {name: value for name, value in json.loads(path.read_text()).items() if name not in later}
    path.write_text(json.dumps(old | {"schema_version": 1}))

    assert AdapterStore(tmp_path).version(NAME, "v0001").manifest.schema_version == 1
