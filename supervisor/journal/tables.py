"""The journal's tables. Change them together with a new revision under ``migrations/versions``."""

from datetime import UTC, datetime

from sqlalchemy import JSON, Column, DateTime, Dialect, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

HEAD = "0001"  # the newest revision; known here so that an up-to-date journal opens without loading Alembic


class Moment(TypeDecorator[datetime]):
    """A point in time, UTC in and out; SQLite keeps no zone, so we put it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

completions = Table(
    "completions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("created", Moment, nullable=False),
    Column("route", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("version", String(32)),
    Column("base", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("reply", JSON, nullable=False),
    Column("finish_reason", String(64)),
    Column("usage", JSON(none_as_null=True)),
    Column("timings", JSON(none_as_null=True)),
    Column("ttft_s", Float),
    Column("total_s", Float, nullable=False),
    Column("reply_digest", String(64), nullable=False),
    Index("completions_by_reply", "adapter", "reply_digest", "id"),
)

lessons = Table(
    "lessons",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("adapter", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Column("fed", Moment, nullable=False),
    Column("started", Moment),
    Column("finished", Moment),
    Column("training", JSON, nullable=False),
    Column("orchestration", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("progress", Float, nullable=False),
    Column("step", Text, nullable=False),
    Column("version", String(32)),
    Column("parent", String(32)),
    Column("metrics", JSON, nullable=False),
    Column("timing_ms", JSON, nullable=False),
    Column("error", Text),
    Column("feedback_count", Integer, nullable=False),
    Index("lessons_by_state", "state", "id"),
    Index("lessons_by_adapter", "adapter", "id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("created", Moment, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("completion_id", String(40), ForeignKey("completions.id")),
    Column("prompt", Text),
    Column("response", Text),
    Column("text", Text, nullable=False),
    Column("lesson_id", String(40), ForeignKey("lessons.id"), nullable=False),
    Column("source", String(64), nullable=False),
    Index("feedback_by_lesson", "lesson_id", "id"),
)
