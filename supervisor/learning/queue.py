"""A lesson's feedback -> the job that a trainer gets."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from supervisor.adapters.store import AdapterStore, AdapterVersion
from supervisor.distill.job import DistillJob, LoraShape, Message, Sample, Training
from supervisor.errors import DistillError, NoSuchEntry
from supervisor.journal.journal import Journal
from supervisor.journal.records import Completion, Feedback, Lesson
from supervisor.learning.clean import clean_message, clean_messages
from supervisor.learning.replay import earlier
from supervisor.plan.plan import Plan
from supervisor.render.templates import fill

HINDSIGHT = "prompts/hindsight.j2"
LONGEST_PROMPT = 4096  # tokens, unless the caller wants more: the plan's memory for a lesson does not grow with them


@dataclass(frozen=True)
class JobBuilder:
    """Reads the journal and the adapter store; changes neither."""

    journal: Journal
    adapters: AdapterStore
    plan: Plan

    async def build(self, lesson: Lesson, out: Path, weights: Path) -> DistillJob:
        """``weights``: what the trainer loads. Raises DistillError when no lesson can be made of this, saying why."""
        if self.plan.model.lessons:
            raise DistillError(f"{self.plan.model.name} cannot be taught: {self.plan.model.lessons}")
        feedback = await self.journal.feedback_of(lesson.id)
        if not feedback:
            raise DistillError(f"lesson {lesson.id} has no feedback")
        parent = self.adapters.current(lesson.adapter)
        recipe = self.plan.recipe
        return DistillJob(
            id=lesson.id,
            base=weights.absolute(),
            base_gguf=weights.absolute() if weights.is_file() else self.plan.model.gguf.resolve(),
            parent=parent.folder if parent else None,
            out=out,
            samples=(*[await self._sample(one, parent) for one in feedback], *await self._repeated(lesson, parent)),
            training=training_for(lesson.training, self.plan),
            lora=LoraShape(r=recipe.lora_r, alpha=recipe.lora_alpha),
            threads=self.plan.threads,
            context=self.plan.context,
        )

    async def _repeated(self, lesson: Lesson, parent: AdapterVersion | None) -> list[Sample]:
        """What of it can still be read: the journal forgets in time."""
        if parent is None or not self.plan.recipe.replay:
            return []
        samples = []
        for one in await earlier(self.journal, self.adapters, parent, count=self.plan.recipe.replay, key=lesson.id):
            with suppress(DistillError, NoSuchEntry):
                samples.append(await self._sample(one, parent))
        return samples

    async def _sample(self, feedback: Feedback, parent: AdapterVersion | None) -> Sample:
        completion = await self._completion(feedback)
        if completion is None:  # said about a reply that was not made here: taken as it was told
            return sample(
                feedback,
                [{"role": "user", "content": feedback.prompt or ""}],
                {"role": "assistant", "content": feedback.response},
                behaviour=parent.folder if parent else None,
            )
        if completion.base != self.plan.model.name:
            raise DistillError(
                f"reply {completion.id} was written by {completion.base}, and {self.plan.model.name} is the one that "
                "learns; give the feedback on a reply of its own"
            )
        return sample(
            feedback,
            completion.messages,
            completion.reply,
            closed=completion.finish_reason in {"stop", "tool_calls"},
            reply_tokens=counted(completion),
            tools=completion.request.get("tools") or (),
            template=told_the_template(completion.request),
            behaviour=self._wrote(completion),
        )

    async def _completion(self, feedback: Feedback) -> Completion | None:
        if feedback.completion_id is not None:
            return await self.journal.completion(feedback.completion_id)
        return await self.journal.find_completion(feedback.adapter, feedback.prompt, feedback.response or "")

    def _wrote(self, completion: Completion) -> Path | None:
        """The folder of the version that wrote a reply; None for the base, and for a version that was deleted since."""
        if completion.version is None:
            return None
        folder = self.adapters.home(completion.adapter) / completion.version
        return folder if (folder / "manifest.json").exists() else None


def sample(
    feedback: Feedback,
    messages: Sequence[Mapping[str, Any]],
    reply: Mapping[str, Any],
    *,
    closed: bool = True,
    reply_tokens: int | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    template: Mapping[str, Any] | None = None,
    behaviour: Path | None = None,
) -> Sample:
    cleaned = clean_messages(messages)
    return Sample(
        id=feedback.id,
        messages=cleaned,
        hindsight=with_hindsight(cleaned, feedback.text),
        reply=clean_message({**reply, "role": "assistant"}),
        closed=closed,
        reply_tokens=reply_tokens,
        tools=tuple(dict(tool) for tool in tools),
        template=dict(template or {}),
        behaviour=behaviour,
    )


def counted(completion: Completion) -> int | None:
    """Tokens of the reply, as the backend counted them; of several replies it counts all together."""
    if completion.request.get("n") not in (None, 1):
        return None
    told = ((completion.usage or {}).get("completion_tokens"), (completion.timings or {}).get("predicted_n"))
    return next((count for count in told if isinstance(count, int) and count > 0), None)


def told_the_template(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says to the model's chat template: its own words for it, or Ollama's ``think``."""
    values = request.get("chat_template_kwargs")
    think = {"enable_thinking": request["think"]} if isinstance(request.get("think"), bool) else {}
    return {**think, **values} if isinstance(values, Mapping) else think


def with_hindsight(messages: Sequence[Message], feedback: str) -> tuple[Message, ...]:
    """The conversation as the teacher reads it: the feedback is written into the last thing the user said."""
    last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last is None:
        raise DistillError("the conversation has no user message to which the feedback could belong")
    told = {**messages[last], "content": fill(HINDSIGHT, {"prompt": messages[last]["content"], "feedback": feedback})}
    return (*messages[:last], told, *messages[last + 1 :])


def training_for(wishes: Mapping[str, Any], plan: Plan) -> Training:
    """The plan's recipe with what the caller asked for on top. DistillError names a value out of range."""
    recipe = plan.recipe
    values = {
        "learning_rate": recipe.learning_rate,
        "alpha": recipe.alpha,
        "updates": recipe.updates,
        "rounds": recipe.rounds,
        "rollouts": recipe.rollouts,
        "kl_reg_weight": recipe.kl_reg_weight,
        "max_prompt_tokens": max(64, min(LONGEST_PROMPT, plan.context // 2)),
        **{name: value for name, value in wishes.items() if value is not None},
    }
    try:
        return Training.model_validate(values)
    except ValidationError as exc:
        problem = exc.errors()[0]
        raise DistillError(f"training value {problem['loc'][0]}={problem['input']!r}: {problem['msg']}") from exc
