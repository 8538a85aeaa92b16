"""A journal for each test: SQLite in its own folder and, where an address is given, PostgreSQL too."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from supervisor.journal.journal import Journal, open_journal

POSTGRES = os.environ.get("CLAWLAMA_TEST_POSTGRES")  # e.g. postgresql://me@localhost/scratch: emptied by each test


@pytest.fixture(params=["sqlite", "postgres"] if POSTGRES else ["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db" if request.param == "sqlite" else str(POSTGRES)


@pytest.fixture
async def journal(url: str) -> AsyncIterator[Journal]:
    if not url.startswith("sqlite"):
        await empty(url)
    async with open_journal(url) as opened:
        yield opened


async def empty(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await engine.dispose()
