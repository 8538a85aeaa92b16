"""What a person's feedback looks like when it arrives: alone or in a batch, with wishes for the lesson."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Written = Annotated[str, Field(min_length=1)]


class TrainingWishes(BaseModel, frozen=True, extra="forbid"):
    """What is left out follows the recipe of the running plan."""

    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    alpha: float | None = Field(None, ge=0, le=1)
    is_clip: float | None = Field(None, ge=1, le=20)
    max_grad_norm: float | None = Field(None, ge=0, allow_inf_nan=False)
    kl_reg_weight: float | None = Field(None, ge=0, le=1)
    teacher_top_k: int | None = Field(None, ge=10, le=100)
    support: Literal["teacher", "student"] | None = None
    updates: int | None = Field(None, ge=1, le=64)
    rounds: int | None = Field(None, ge=1, le=16)
    rollouts: int | None = Field(None, ge=1, le=8)
    max_prompt_tokens: int | None = Field(None, ge=64)
    max_reply_tokens: int | None = Field(None, ge=16)
    teacher_mode: Literal["self"] | None = None

    @field_validator("teacher_mode", mode="before")
    @classmethod
    def _one_teacher(cls, value: object) -> object:
        if value not in (None, "self"):
            raise ValueError('the teacher is always the model itself; send "self" or leave it out')
        return value

    def overrides(self) -> dict[str, Any]:
        """Without the teacher, who is no wish: feedback that names it and feedback that does not share a lesson."""
        return self.model_dump(exclude_none=True, exclude={"teacher_mode"})


class Orchestration(BaseModel, frozen=True, extra="forbid"):
    """How the engine's memory is handed to the lesson; what is left out is decided by the plan."""

    sleep_before: bool | None = None
    wake_after: bool | None = None
    wake_on_failure: bool | None = None
    sleep_level: Literal[1, 2] | None = None


class FeedbackItem(BaseModel, frozen=True, extra="forbid"):
    """Feedback on one reply, which is named by its completion id or quoted."""

    lora_id: Written
    feedback: Said
    completion_id: str | None = None
    prompt: str | None = None
    response: str | None = None
    training: TrainingWishes = TrainingWishes()

    @model_validator(mode="after")
    def _names_a_reply(self) -> "FeedbackItem":
        if self.completion_id is None and not (self.response or "").strip():
            raise ValueError('name the reply: give "response" (and "prompt") or "completion_id"')
        return self


class SingleFeedback(FeedbackItem, frozen=True, extra="forbid"):
    orchestration: Orchestration = Orchestration()
    wait: bool = True

    @property
    def items(self) -> tuple[FeedbackItem, ...]:
        return (self,)


class BatchFeedback(BaseModel, frozen=True, extra="forbid"):
    requests: tuple[FeedbackItem, ...] = Field(min_length=1, max_length=64)
    orchestration: Orchestration = Orchestration()
    wait: bool = True

    @property
    def items(self) -> tuple[FeedbackItem, ...]:
        return self.requests

    @model_validator(mode="after")
    def _one_lesson(self) -> "BatchFeedback":
        adapters = sorted({item.lora_id for item in self.requests})
        if len(adapters) > 1:
            raise ValueError(f"a batch teaches one adapter, this names {', '.join(adapters)}; send one batch for each")
        if len({item.training for item in self.requests}) > 1:
            raise ValueError("a batch is one lesson with one training; send items with another training separately")
        return self


def _form(body: object) -> str:
    return "batch" if isinstance(body, BatchFeedback) or (isinstance(body, dict) and "requests" in body) else "single"


FeedbackBody = Annotated[
    Annotated[SingleFeedback, Tag("single")] | Annotated[BatchFeedback, Tag("batch")], Discriminator(_form)
]
