from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from supervisor.executors.trainer import Warm
from supervisor.front import warm
from supervisor.host.detect import detect
from supervisor.plan.decide import decide
from supervisor.plan.models import model_facts
from supervisor.settings.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("seconds", "rest", "kept"), [(60.0, False, True), (0.0, False, False), (60.0, True, False)])
async def test_a_trainer_is_kept_where_the_engine_can_do_without_its_memory(
    tmp_path: Path, seconds: float, rest: bool, kept: bool
) -> None:
    plan = replace(decide(detect(tmp_path), Settings(data=tmp_path), model_facts("tiny-chat")), rest_for_lessons=rest)

    async with anyio.create_task_group() as tasks:
        assert isinstance(warm(plan, seconds, tasks), Warm) == kept
