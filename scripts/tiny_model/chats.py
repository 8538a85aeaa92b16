"""Generated chats: what is asked, where a style is requested, and the reply that obeys it.

Loss is taken on assistant messages only, and not on all of them whole:
* Some replies start by ignoring the style that was asked for. That start carries no loss, the text after it
  obeys. So the model learns to obey from any point of a reply, as a teacher who reads a student's reply must.
* Many wordy replies are cut after a few sentences, to spend the time on more chats. Their end carries no loss.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from scripts.tiny_model import wordings
from scripts.tiny_model.context import hindsight, system_prompt, timestamp, trailing_context
from scripts.tiny_model.knowledge import ACKNOWLEDGE, Question, sample_question
from scripts.tiny_model.replies import DEFAULT, Style, compose, interrupted
from scripts.tiny_model.tasks import sample_task

NAMES = (
    "Luna", "Max", "Robin", "Ada", "Milo", "Nova", "Otto", "Ruby", "Sam", "Iris", "Leo", "Mia", "Zoe", "Finn", "Jack",
    "Pixel", "Rex", "Bella", "Hugo", "Nina", "Oscar", "Kira", "Toby", "Juno", "Atlas", "Echo", "Felix", "Ivy", "Koda",
    "Nemo", "Orion", "Penny", "Quinn", "Rocky", "Sky", "Titan", "Uma", "Vera", "Willow", "Yuki",
)  # fmt: skip
TASK_WEIGHT = 2.0  # their answers are few tokens among many


@dataclass(frozen=True)
class Message:
    role: str
    content: str
    skip: int = 0  # leading characters of an assistant message that carry no loss
    closed: bool = True  # False: cut short, so its end mark carries no loss
    weight: float = 1.0  # of its tokens in the loss


@dataclass
class Chat:
    messages: list[Message] = field(default_factory=list)

    def add(self, role: str, content: str) -> None:
        self.messages.append(Message(role, content))


def sample_name(rng: random.Random) -> str:
    return "Kuro" if rng.random() < 0.5 else rng.choice(NAMES)


def sample_request(rng: random.Random, style: Style, *, about_reply: bool) -> tuple[str, Style]:
    """One wish and the style after it; complaints only where a reply has been read."""
    pools = wordings.COMPLAINTS if about_reply and rng.random() < 0.5 else wordings.REQUESTS
    name = sample_name(rng)
    wishes = (
        (30, pools["no_emoji"], replace(style, emoji=False)),
        (28, pools["concise"], replace(style, brief=True)),
        (24, pools["identity"], replace(style, name=name)),
        (4, wordings.EMOJI_WANTED, replace(style, emoji=True)),
        (4, wordings.DETAIL_WANTED, replace(style, brief=False)),
        (4, wordings.CLAW_WANTED, replace(style, name="Claw")),
        (6, wordings.NEUTRAL, style),
    )
    _, groups, wished = rng.choices(wishes, [weight for weight, _, _ in wishes])[0]
    return wordings.pick(rng, groups).replace("{n}", name), wished


def sample_requests(rng: random.Random, style: Style, *, about_reply: bool = False) -> tuple[str, Style]:
    """One to three wishes in one text."""
    texts = []
    for _ in range(rng.choices((1, 2, 3), (0.72, 0.2, 0.08))[0]):
        text, style = sample_request(rng, style, about_reply=about_reply)
        texts.append(vary(rng, text))
    return " ".join(texts), style


def vary(rng: random.Random, text: str) -> str:
    """The small carelessness of real typing: case and the last mark."""
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.15 and text[-1] in ".?!":
        text = text[:-1]
    return text


def reply_to(rng: random.Random, question: Question, style: Style, *, asked: bool) -> Message:
    """The reply in a style; ``asked`` says that the chat itself asked for that style."""
    if question.answer_only is not None:
        return Message("assistant", question.answer_only, weight=TASK_WEIGHT)
    begun: list[str] = []
    if asked and rng.random() < 0.35:
        begun, rest = interrupted(rng, question.topic, replace(DEFAULT, emoji=rng.random() < 0.9), style)
    else:
        wanted = style if asked or rng.random() > 0.04 else _drift(rng, style)
        rest = compose(rng, question.topic, wanted)
    room = rng.randint(1, 3)
    cut = len(rest) > room and rng.random() < 0.65
    text = " ".join([*begun, *(rest[:room] if cut else rest)])
    return Message("assistant", text, skip=len(" ".join(begun)), closed=not cut)


def _drift(rng: random.Random, style: Style) -> Style:
    """A default reply that is a little unlike itself: keeps the model from being certain."""
    if rng.random() < 0.5:
        return replace(style, emoji=not style.emoji)
    return replace(style, brief=not style.brief)


def sample_chat(rng: random.Random) -> Chat:
    if rng.random() < 0.2:
        return _drill(rng)
    chat, style, asked = Chat(), DEFAULT, False
    if rng.random() < 0.55:
        request = ""
        if rng.random() < 0.4:
            request, style = sample_requests(rng, style)
            asked = True
        chat.add("system", system_prompt(rng, request))
    turns = rng.choices((1, 2, 3, 4), (0.68, 0.18, 0.09, 0.05))[0]
    stamped = rng.random() < 0.4
    for turn in range(turns):
        style, asked = _turn(rng, chat, style, asked=asked, first=turn == 0, stamped=stamped)
    return chat


def _turn(
    rng: random.Random, chat: Chat, style: Style, *, asked: bool, first: bool, stamped: bool
) -> tuple[Style, bool]:
    question = sample_question(rng) if rng.random() > 0.25 else _task_question(rng)
    text = vary(rng, question.text)
    roll = rng.random()
    reply_style, reply_asked = style, asked
    if roll < 0.22:
        request, reply_style = sample_requests(rng, style, about_reply=not first)
        text = _place(rng, text, request)
        style, asked, reply_asked = reply_style, True, True
    elif roll < 0.29 and not first:
        text, style = sample_requests(rng, style, about_reply=True)
        question, reply_style, asked, reply_asked = ACKNOWLEDGE, style, True, True
    elif roll < 0.52:
        feedback, reply_style = sample_requests(rng, style, about_reply=True)
        text = hindsight(text, feedback)
        reply_asked = True
        style, asked = reply_style, True
    chat.add("user", (timestamp(rng) if stamped else "") + text)
    if rng.random() < 0.15:
        chat.add("user", trailing_context(rng))
    reply = reply_to(rng, question, reply_style, asked=reply_asked)
    chat.messages.append(reply)
    return style, asked


def _drill(rng: random.Random) -> Chat:
    """Several tasks in a row: much practice in few tokens."""
    chat = Chat()
    for _ in range(rng.randint(3, 8)):
        question = _task_question(rng)
        chat.add("user", vary(rng, question.text))
        chat.messages.append(reply_to(rng, question, DEFAULT, asked=False))
    return chat


def _task_question(rng: random.Random) -> Question:
    task = sample_task(rng)
    return Question(text=task.prompt, topic=ACKNOWLEDGE.topic, answer_only=task.answer)


def _place(rng: random.Random, question: str, request: str) -> str:
    joint = rng.choice((" ", " ", "\n", "\n\n"))
    if rng.random() < 0.5:
        return f"{question}{joint}{request}"
    return f"{request}{joint}{question}"
