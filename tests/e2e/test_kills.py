"""Whatever is killed, whenever: what was acknowledged is kept, what is served is whole, and the next start works."""

import os
import random
import signal
from pathlib import Path

import anyio
import pytest

from tests.e2e.checks import check_gone, check_journal, check_kept, check_served, check_start, lessons_over
from tests.e2e.kills import Killer, LifePlan
from tests.e2e.ledger import Ledger, Talker
from tests.e2e.product import Place, clear_away, started

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.openclaw]

LIMIT = 1500.0  # seconds on a machine that is busy with other things; a fifth of it is usual
PLANS = [
    LifePlan("starting", engine=1),
    LifePlan("publishing", engine=4, worker=3, openclaw=1),
    LifePlan("starting"),
    LifePlan("starting", engine=1, openclaw=1),
    LifePlan("anything", engine=4, worker=3, openclaw=1),
    LifePlan("starting"),
    LifePlan("publishing", engine=4, worker=3, openclaw=1),
    LifePlan("starting", engine=1, openclaw=1),
    LifePlan("starting"),
    LifePlan("publishing", engine=4, worker=3, openclaw=1),
    LifePlan("starting", engine=1),
]
QUICK_LESSONS = {"CLAWLAMA_FEEDBACK_BATCH_SIZE": "2", "CLAWLAMA_FEEDBACK_PATIENCE_S": "1"}


async def test_fifty_kills_while_chatting_and_learning_lose_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"KILL_SEED={seed}")  # noqa: T201 - shown with a failure
    chance = random.Random(seed)
    place, ledger = Place(tmp_path, QUICK_LESSONS), Ledger()
    killer, talker = Killer(place, chance), Talker(place, ledger, chance)
    try:
        with anyio.fail_after(LIMIT):
            async with started(place) as life:
                await life.owns_something()  # the real OpenClaw, which checks its configuration
                killer.counts["supervisor"] += 1
            async with started(place) as life:
                await life.api_up()  # from here on there are tokens, and somebody to talk to
                assert not place.strays(life.process.pid)
                killer.counts["supervisor"] += 1
            async with anyio.create_task_group() as tg:
                tg.start_soon(talker.run)
                tg.start_soon(talker.teach)
                for plan in PLANS:
                    async with started(place) as life:
                        if plan.ending != "starting":
                            await check_start(place, life)
                        await killer.run(life, plan)
                tg.cancel_scope.cancel()
            await last_life(place, talker)
    finally:
        clear_away(place)
    print(killer.counts, ledger)  # noqa: T201
    assert sum(killer.counts.values()) >= 50
    assert min(killer.counts[one] for one in ("engine", "worker", "openclaw", "supervisor")) >= 5
    assert min(len(ledger.completions), len(ledger.turns), len(ledger.feedback)) > 0


async def last_life(place: Place, talker: Talker) -> None:
    """Nobody is killed any more: what waits is learned, all is still there, and a stop leaves nothing."""
    async with started(place) as life:
        await check_start(place, life)
        await life.ready()
        async with anyio.create_task_group() as tg:
            tg.start_soon(talker.run)
            await lessons_over(life)
            tg.cancel_scope.cancel()
        await check_kept(place, talker.ledger)
        await check_served(place)
        assert await life.end(signal.SIGTERM) == 0
    check_gone(place)
    check_journal(place, talker.ledger)
