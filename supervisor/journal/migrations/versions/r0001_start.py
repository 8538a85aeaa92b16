"""Completions, feedback and lessons."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.create_table(
        "completions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("adapter", sa.Text, nullable=False),
        sa.Column("version", sa.String(32)),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("reply", sa.JSON, nullable=False),
        sa.Column("finish_reason", sa.String(64)),
        sa.Column("usage", sa.JSON),
        sa.Column("timings", sa.JSON),
        sa.Column("ttft_s", sa.Float),
        sa.Column("total_s", sa.Float, nullable=False),
        sa.Column("reply_digest", sa.String(64), nullable=False),
    )
    op.create_index("completions_by_reply", "completions", ["adapter", "reply_digest", "id"])
    op.create_table(
        "lessons",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("adapter", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True)),
        sa.Column("finished", sa.DateTime(timezone=True)),
        sa.Column("training", sa.JSON, nullable=False),
        sa.Column("orchestration", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("version", sa.String(32)),
        sa.Column("parent", sa.String(32)),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("timing_ms", sa.JSON, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("feedback_count", sa.Integer, nullable=False),
    )
    op.create_index("lessons_by_state", "lessons", ["state", "id"])
    op.create_index("lessons_by_adapter", "lessons", ["adapter", "id"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("adapter", sa.Text, nullable=False),
        sa.Column("completion_id", sa.String(40), sa.ForeignKey("completions.id")),
        sa.Column("prompt", sa.Text),
        sa.Column("response", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("lesson_id", sa.String(40), sa.ForeignKey("lessons.id"), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
    )
    op.create_index("feedback_by_lesson", "feedback", ["lesson_id", "id"])
