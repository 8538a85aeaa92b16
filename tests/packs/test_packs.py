"""Installing: whole or not at all, whatever happens on the way."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from structlog.testing import capture_logs

from supervisor.errors import PackError
from supervisor.packs.address import default_index
from supervisor.packs.choose import usable
from supervisor.packs.installed import RECORD, lost, record_of
from supervisor.packs.pack import Pack
from supervisor.packs.packs import PackSetup
from tests.packs.depot import Depot, executable, locked, noise, ollama_pack, pack_of, packs_at, torch_pack, wheel
from tests.plan.machines import GPU, machine

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
KILLED_INSTALL = """
    import anyio, sys
    from pathlib import Path
    from supervisor.packs.pack import Pack
    from supervisor.packs.packs import Packs, PackSetup

    home, index, text = sys.argv[1:]
    packs = Packs(PackSetup(Path(home), index, others=()))
    print(anyio.run(packs.install, Pack.model_validate_json(text)))
"""


async def landed(_: Pack) -> None:
    pass


def left(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


async def test_a_pack_is_downloaded_checked_and_unpacked(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    packs = packs_at(shop, tmp_path / "packs", pack)

    with anyio.fail_after(20):
        assert await packs.install(pack)

    folder = tmp_path / "packs" / "torch-cuda-1.0"
    assert packs.python_path() == folder
    assert (folder / "torch/lib/libtorch_cuda.so").read_bytes() == noise(200_000)
    assert lost(folder) == ""
    assert left(tmp_path / "packs") == {"torch-cuda-1.0", "lock"}
    assert (packs.progress, packs.problem) == ({}, "")


async def test_ollama_comes_as_a_folder_of_its_own_with_the_libraries_of_this_driver(
    shop: Depot, tmp_path: Path
) -> None:
    pack = ollama_pack(shop)
    packs = packs_at(shop, tmp_path, pack)

    with anyio.fail_after(20):
        await packs.install(pack)

    found = packs.ollama()
    assert found == tmp_path / "ollama-cuda13-0.1" / "bin" / "ollama"
    assert os.access(found, os.X_OK)
    library = found.parent.parent / "lib" / "ollama"
    assert sorted(path.name for path in library.iterdir()) == ["cuda_v13", "libggml-base.so.0", "libggml-base.so.0.1"]
    assert (library / "libggml-base.so.0").read_bytes() == noise(5000)


@pytest.mark.parametrize("json_index", [False, True])
async def test_both_forms_of_a_package_index_are_read(shop: Depot, tmp_path: Path, json_index: bool) -> None:
    shop.json_index = json_index
    pack = torch_pack(shop)

    with anyio.fail_after(20):
        assert await packs_at(shop, tmp_path).install(pack)


async def test_a_second_start_downloads_nothing(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    with anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)
        shop.asked.clear()

        assert not await packs_at(shop, tmp_path).install(pack)

    assert shop.asked == []


async def test_what_the_image_brings_is_not_downloaded(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    with anyio.fail_after(20):
        await packs_at(shop, tmp_path / "baked").install(pack)
        packs = packs_at(shop, tmp_path / "home", pack, others=(tmp_path / "baked",))

        assert not await packs.install(pack)

    assert packs.python_path() == tmp_path / "baked" / "torch-cuda-1.0"


async def test_a_cut_download_goes_on_where_it_broke_off(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    name, size = pack.files[0].name, len(shop.files[pack.files[0].name])
    shop.cut = [60_000, 60_000]

    with anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)

    assert shop.of(name) == ["", "bytes=60000-", "bytes=120000-"]
    assert shop.sent == size + len(shop.files[pack.files[1].name])


async def test_a_server_that_knows_no_ranges_sends_everything_again(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    shop.ranges, shop.cut = False, [60_000]

    with anyio.fail_after(20):
        assert await packs_at(shop, tmp_path).install(pack)

    assert shop.of(pack.files[0].name) == ["", "bytes=60000-"]


async def test_a_file_that_changed_on_the_server_is_fetched_from_its_beginning(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    name = pack.files[0].name
    part = tmp_path / "downloads" / f"{pack.files[0].sha256}.part"
    part.parent.mkdir()
    part.write_bytes(noise(50_000, 9))  # of what lay there before

    with anyio.fail_after(20):
        assert await packs_at(shop, tmp_path).install(pack)

    assert shop.of(name) == ["bytes=50000-", ""]


async def test_more_than_there_should_be_is_thrown_away(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    shop.files[pack.files[0].name] += b"more"

    with pytest.raises(PackError, match=r"the server sent .* bytes of "), anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)

    assert left(tmp_path / "downloads") == set()


async def test_another_checksum_is_refused_and_nothing_of_it_stays(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    name = pack.files[0].name
    shop.files[name] = noise(len(shop.files[name]), 7)

    with pytest.raises(PackError, match="has another checksum than this version of clawlama knows"):
        await packs_at(shop, tmp_path).install(pack)

    assert len(shop.of(name)) == 2
    assert left(tmp_path) == {"downloads", "lock"}
    assert left(tmp_path / "downloads") == set()


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_what_is_not_there_is_not_asked_for_again(shop: Depot, tmp_path: Path, status: int) -> None:
    pack = torch_pack(shop)
    shop.status = status

    with pytest.raises(PackError, match=r"CLAWLAMA_PACKAGE_INDEX"), anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)

    assert len(shop.asked) == 1


async def test_a_release_that_was_removed_is_told(shop: Depot, tmp_path: Path) -> None:
    pack = ollama_pack(shop)
    shop.files.clear()

    with pytest.raises(PackError, match="answers 404; it may have been removed"), anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)


async def test_a_server_in_trouble_is_asked_again_and_given_up_with_the_reason(shop: Depot, tmp_path: Path) -> None:
    pack = ollama_pack(shop)
    shop.status = 503

    with pytest.raises(PackError, match=r"127.0.0.1 answers 503; check the network"), anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)

    assert len(shop.asked) == 6


async def test_no_network_is_told_as_that(shop: Depot, tmp_path: Path) -> None:
    pack = ollama_pack(shop)
    nobody = pack.files[0].model_copy(update={"url": "http://127.0.0.1:9/x"})

    with pytest.raises(PackError, match=r"cannot be downloaded: .*; check the network"), anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack_of(nobody))


async def test_too_little_room_is_said_before_anything_is_asked(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)

    with pytest.raises(PackError, match=r"needs .* on the disk of .*, and 1.0 MB are free; make room"):
        await packs_at(shop, tmp_path, free=lambda _: 10**6).install(pack)

    assert shop.asked == []


async def test_a_disk_that_fills_up_on_the_way_is_told(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{pack.files[0].sha256}.part").symlink_to("/dev/full")

    with pytest.raises(PackError, match="No space left on device; make room"), anyio.fail_after(20):
        await packs_at(shop, tmp_path).install(pack)


async def test_a_file_without_a_checksum_is_not_downloaded(shop: Depot, tmp_path: Path) -> None:
    pack = ollama_pack(shop)
    unknown = pack.files[0].model_copy(update={"sha256": None})

    with pytest.raises(PackError, match=r"the checksum of ollama-0.1.tar.zst \(1.0\) is not known to this build"):
        await packs_at(shop, tmp_path).install(pack_of(unknown))

    assert (shop.asked, left(tmp_path)) == ([], set())


async def test_an_upgrade_replaces_the_old_version_once_the_new_one_is_there(shop: Depot, tmp_path: Path) -> None:
    old, new = torch_pack(shop), torch_pack(shop, version="2.0")
    with anyio.fail_after(20):
        await packs_at(shop, tmp_path, old).install(old)
        upgraded = packs_at(shop, tmp_path, new)
        assert upgraded.python_path() is None

        await upgraded.install(new)

    assert upgraded.python_path() == tmp_path / "torch-cuda-2.0"
    assert left(tmp_path) == {"torch-cuda-2.0", "lock"}


async def test_what_a_kill_left_after_the_last_step_is_cleared_by_the_next_start(shop: Depot, tmp_path: Path) -> None:
    old, new, other = torch_pack(shop), torch_pack(shop, version="2.0"), ollama_pack(shop)
    with anyio.fail_after(20):
        await packs_at(shop, tmp_path / "elsewhere").install(old)
        await packs_at(shop, tmp_path).install(new)
    (tmp_path / "elsewhere" / "torch-cuda-1.0").rename(tmp_path / "torch-cuda-1.0")
    (tmp_path / "downloads").mkdir()
    for pack in (new, other):
        (tmp_path / "downloads" / str(pack.files[0].sha256)).write_bytes(b"x")

    assert not await packs_at(shop, tmp_path).install(new)

    assert left(tmp_path) == {"torch-cuda-2.0", "lock", "downloads", "elsewhere"}
    assert left(tmp_path / "downloads") == {other.files[0].sha256}


async def test_a_new_driver_changes_the_libraries_and_leaves_the_other_pack_alone(shop: Depot, tmp_path: Path) -> None:
    torch, old, new = torch_pack(shop), ollama_pack(shop, name="ollama-cuda12"), ollama_pack(shop)
    with anyio.fail_after(20):
        for pack in (torch, old, new):
            await packs_at(shop, tmp_path).install(pack)

    assert left(tmp_path) == {"torch-cuda-1.0", "ollama-cuda13-0.1", "lock"}


async def test_an_image_brings_the_libraries_for_more_than_one_driver(shop: Depot, tmp_path: Path) -> None:
    old, new = ollama_pack(shop, name="ollama-cuda12"), ollama_pack(shop)
    with anyio.fail_after(20):
        for pack in (old, new):
            await packs_at(shop, tmp_path, keep_others=True).install(pack)

    assert left(tmp_path) == {"ollama-cuda12-0.1", "ollama-cuda13-0.1", "lock"}


@pytest.mark.parametrize("broken", ["torch/lib/libtorch_cuda.so", RECORD])
async def test_a_pack_that_lost_a_file_is_installed_again(shop: Depot, tmp_path: Path, broken: str) -> None:
    pack = torch_pack(shop)
    packs = packs_at(shop, tmp_path, pack)
    with anyio.fail_after(20):
        await packs.install(pack)
        (tmp_path / "torch-cuda-1.0" / broken).unlink()

        assert await packs.install(pack)

    assert lost(tmp_path / "torch-cuda-1.0") == ""


async def test_without_a_gpu_what_is_installed_is_not_used(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    with anyio.fail_after(20):
        await packs_at(shop, tmp_path, pack).install(pack)

    later = packs_at(shop, tmp_path)
    assert (later.python_path(), later.ollama()) == (None, None)
    assert later.lesson_environment({"A": "b"}) == {"A": "b"}


async def test_a_lesson_gets_our_torch_before_any_other(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    packs = packs_at(shop, tmp_path, pack)
    with anyio.fail_after(20):
        await packs.install(pack)

    folder = str(tmp_path / "torch-cuda-1.0")
    assert packs.lesson_environment({})["PYTHONPATH"] == folder
    assert packs.lesson_environment({"PYTHONPATH": "/mine"})["PYTHONPATH"] == f"{folder}:/mine"


async def test_serving_counts_on_a_gpu_once_its_libraries_are_there(shop: Depot, tmp_path: Path) -> None:
    pack, ollama = ollama_pack(shop), executable(tmp_path / "image" / "bin" / "ollama")
    packs = packs_at(shop, tmp_path / "packs", pack)
    facts = machine(gpus=(GPU,))

    assert usable(facts, packs, ollama).gpus == ()
    assert usable(facts, packs, None) == facts
    with anyio.fail_after(20):
        await packs.install(pack)
    assert usable(facts, packs, ollama) == facts


async def test_two_at_once_download_once(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    made: list[bool] = []

    async def install() -> None:
        made.append(await packs_at(shop, tmp_path).install(pack))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(install)
            tg.start_soon(install)

    assert sorted(made) == [False, True]
    assert [len(shop.of(file.name)) for file in pack.files] == [1, 1]


async def test_progress_says_how_far_how_fast_and_how_long(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop, size=2_000_000)
    packs = packs_at(shop, tmp_path, pack)
    shop.pause = 0.005
    seen: set[str] = set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(packs.install, pack)
            while not any(re.fullmatch(r"\d+ %, [\d.]+ .B/s, \d+ s left", text) for text in seen):
                seen.update(packs.progress.values())
                await anyio.sleep(0.02)
            tg.cancel_scope.cancel()


async def test_a_cancelled_download_is_gone_at_once_and_goes_on_next_time(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop, size=3_000_000)
    shop.pause = 0.005
    part = tmp_path / "downloads" / f"{pack.files[0].sha256}.part"

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(packs_at(shop, tmp_path).install, pack)
            while not part.exists() or not part.stat().st_size:  # noqa: ASYNC110 - nothing announces a byte
                await anyio.sleep(0.01)
            tg.cancel_scope.cancel()
        have, shop.pause = part.stat().st_size, 0
        await packs_at(shop, tmp_path).install(pack)

    assert shop.of(pack.files[0].name) == ["", f"bytes={have}-"]


async def test_a_stop_in_the_middle_of_unpacking_is_quick_and_leaves_nothing_half(shop: Depot, tmp_path: Path) -> None:
    content, name = wheel({f"{index}.so": bytes(2**26) for index in range(3)}), "big-1-py3-none-any.whl"
    shop.files[name] = content
    pack = pack_of(locked(name, content, 3 * 2**26, project="big"))
    packs = packs_at(shop, tmp_path, pack)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tg:
            tg.start_soon(packs.install, pack)
            while not list(tmp_path.glob("staging/*.so")):  # noqa: ASYNC110 - a thread writes it
                await anyio.sleep(0.001)
            tg.cancel_scope.cancel()
        assert left(tmp_path) == {"downloads", "lock"}

        assert await packs.install(pack)

    assert shop.of(name) == [""]


async def test_what_fails_is_warned_of_once_and_tried_again_until_it_is_there(shop: Depot, tmp_path: Path) -> None:
    pack = ollama_pack(shop)
    packs = packs_at(shop, tmp_path, pack)
    came: list[str] = []

    async def note(one: Pack) -> None:
        came.append(one.name)

    shop.status = 404
    with capture_logs() as logs, anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            tg.start_soon(packs.keep_installed, note)
            while len(shop.asked) < 3:  # noqa: ASYNC110 - the server is a thread
                await anyio.sleep(0.01)
            assert "answers 404" in packs.problem
            assert "answers 404" in packs.progress["ollama-cuda13"]
            shop.status = None

    assert came == ["ollama-cuda13"]
    assert (packs.problem, packs.progress) == ("", {})
    assert [line["log_level"] for line in logs if "CPU" in line["event"]] == ["warning"]


async def test_what_stays_on_the_cpu_is_warned_of_and_shown(shop: Depot, tmp_path: Path) -> None:
    packs = packs_at(shop, tmp_path, notes={"lessons on the CPU": "the driver is old; update the driver"})

    with capture_logs() as logs, anyio.fail_after(5):
        await packs.keep_installed(landed)

    assert [(line["log_level"], line["event"]) for line in logs] == [("warning", "lessons on the CPU")]
    assert packs.progress == {"lessons on the CPU": "the driver is old; update the driver"}


async def test_where_nothing_is_wanted_nothing_is_said_or_made(shop: Depot, tmp_path: Path) -> None:
    packs = packs_at(shop, tmp_path)

    with capture_logs() as logs, anyio.fail_after(5):
        await packs.keep_installed(landed)

    assert (logs, shop.asked, left(tmp_path)) == ([], [], set())


@pytest.mark.parametrize("moment", ["downloads/*.part", "staging/torch", "torch-cuda-1.0"])
def test_a_kill_at_any_moment_is_made_good_by_the_next_start(shop: Depot, tmp_path: Path, moment: str) -> None:
    pack = torch_pack(shop, size=4_000_000)
    argv = [sys.executable, "-c", textwrap.dedent(KILLED_INSTALL), str(tmp_path), f"{shop.url}/simple"]
    shop.pause = 0.001 if "part" in moment else 0
    process = subprocess.Popen([*argv, pack.model_dump_json()], cwd=ROOT)

    while not list(tmp_path.glob(moment)) and process.poll() is None:
        time.sleep(0.001)  # a moment may be over before we look: then nothing is killed, and the rest holds as well
    process.send_signal(signal.SIGKILL)
    process.wait()
    shop.pause = 0
    again = subprocess.run([*argv, pack.model_dump_json()], cwd=ROOT, check=True, timeout=60)

    assert again.returncode == 0
    folder = tmp_path / "torch-cuda-1.0"
    assert (lost(folder), (folder / "torch/lib/libtorch_cuda.so").read_bytes()) == ("", noise(4_000_000))


async def test_a_read_only_home_is_told_with_what_to_do(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    (tmp_path / "packs").write_text("a file in the way")

    with pytest.raises(PackError, match="make the data folder writable for this user"):
        await packs_at(shop, tmp_path / "packs").install(pack)


async def test_what_nobody_thought_of_is_a_problem_too_and_ends_nothing(shop: Depot, tmp_path: Path) -> None:
    pack = torch_pack(shop)
    (tmp_path / "downloads" / str(pack.files[0].sha256)).mkdir(parents=True)  # no file, as we left it
    packs = packs_at(shop, tmp_path, pack)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tg:
            tg.start_soon(packs.keep_installed, landed)
            while not packs.problem:  # noqa: ASYNC110 - what is looked at is what people see
                await anyio.sleep(0.01)
            tg.cancel_scope.cancel()

    assert "torch-cuda: " in packs.problem


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{")

    assert record_of(tmp_path) is None
    assert lost(tmp_path) == RECORD


def test_free_room_is_that_of_the_disk(tmp_path: Path) -> None:
    assert PackSetup(tmp_path, "").free(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def test_the_package_index_is_the_one_that_pip_asks_by_default() -> None:
    assert urlsplit(default_index()).scheme == "https"
    assert default_index().endswith("/simple")
