"""The packs that this version knows, and descriptions that are not in order."""

from pathlib import Path

import pytest

from supervisor.errors import PackError
from supervisor.packs.pack import known_packs, read_pack, shipped
from tests.packs.depot import Depot, torch_pack

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
KNOWN = {(pack.name, pack.machine): pack for pack in known_packs(shipped())}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_torch_is_pinned_whole_and_is_the_version_that_the_image_has(machine: str) -> None:
    pack = KNOWN["torch-cuda", machine]

    pinned = f"torch=={pack.version}" in CONSTRAINTS.read_text().splitlines()
    assert pinned, f"run: python -m supervisor.packs.pin VERSION --machine {machine}"
    assert pack.unpinned == ""
    assert all(file.project and file.unpacked and file.name.endswith(f"{machine}.whl") for file in pack.files)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("library", ["cublas", "cudnn", "cufft", "curand", "cusolver", "cusparse", "cuda_runtime"])
def test_torch_comes_with_the_libraries_that_it_is_linked_against(machine: str, library: str) -> None:
    assert [file.name for file in KNOWN["torch-cuda", machine].files if file.name.startswith(f"nvidia_{library}")]


def test_no_description_names_an_address_of_a_package_registry() -> None:
    assert not [file for pack in KNOWN.values() for file in pack.files if file.project and file.url]


def test_each_is_called_as_its_file_is() -> None:
    assert {path.name for path in shipped().glob("*.json")} == {f"{name}.{machine}.json" for name, machine in KNOWN}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', "\xff"])
def test_a_description_that_is_not_in_order_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")

    with pytest.raises(PackError, match=r"x\.json does not describe a pack"):
        known_packs(tmp_path)


def test_a_description_survives_being_written(tmp_path: Path) -> None:
    pack = torch_pack(Depot())
    (tmp_path / "x.json").write_text(pack.model_dump_json(exclude_defaults=True))

    assert read_pack(tmp_path / "x.json") == pack
