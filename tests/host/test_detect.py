from pathlib import Path

import pytest
from pydantic import ValidationError

from supervisor.host.detect import detect
from supervisor.host.facts import HostFacts


def test_this_machine_can_be_described(tmp_path: Path) -> None:
    facts = detect(tmp_path)

    assert facts.physical_cores >= 1
    assert facts.usable_cpus > 0
    assert (facts.own_threads or 0) >= 1
    assert 0 < facts.memory_available <= facts.memory_total
    assert facts.disk.path == tmp_path


def test_a_description_survives_being_written_and_read(tmp_path: Path) -> None:
    facts = detect(tmp_path)

    assert HostFacts.model_validate_json(facts.model_dump_json()) == facts


def test_a_fact_that_we_do_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="tpus"):
        HostFacts.model_validate(detect(tmp_path).model_dump() | {"tpus": 4})
