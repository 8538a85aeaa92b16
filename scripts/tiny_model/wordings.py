"""How people ask for a style: requests, complaints about an earlier reply, and their opposites.

Requests may stand anywhere (system prompt, user turn, hindsight); complaints only make sense after a reply.
The held-out wordings are written by hand and never trained on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

Pool = Sequence[Sequence[str]]  # groups of wordings
PREFERENCES = ("no_emoji", "concise", "identity")

_THINGS = ("emojis", "emoji", "smileys", "emoticons", "emoji symbols")
_WHERE = ("", " in your replies", " in your answers", " when you answer", " at all", " with me", " from now on")
_SHORT = ("short", "brief", "concise", "very short", "to the point", "short and simple")


def _sentences(*parts: tuple[str, ...]) -> list[str]:
    return ["".join(choice) for choice in product(*parts)]


NO_EMOJI_REQUESTS = [
    _sentences(("Please do not use ", "Do not use ", "Don't use ", "Please don't use ", "Never use ", "Stop using ",
                 "Please stop using ", "Avoid ", "Please avoid ", "Answer without ", "Reply without ", "Write without ",
                 "Please answer without ", "Leave out ", "Leave out all ", "Skip the ", "No ", "No more ", "Use no ",
                 "Please use no ", "Don't put ", "Do not add ", "Don't include any ", "Do not use any "),
                _THINGS, _WHERE, (".",)),
    _sentences(("Could you ", "Can you ", "Would you ", "I want you to ", "Try to ", "I'd like you to ", "You should "),
               ("leave out ", "skip ", "avoid ", "not use ", "stop adding ", "drop ", "do without "), _THINGS,
               ("?", ".", ", please?")),
    _sentences(_THINGS[:3], (" are not welcome here.", " are not allowed.", " are forbidden."), ),
    _sentences(("No ", "Without "), _THINGS, (", please.", " please", "!", ", thanks.")),
    _sentences(("The user does not like ", "The user dislikes ", "The user hates ", "I do not like ", "I don't like ",
                 "I hate ", "I dislike ", "I can't stand ", "I don't want "), _THINGS, (".",)),
    [
        "Plain text only.", "Please write plain text without any emoji.", "Only words, no emojis.",
        "Use words only, and no smileys.", "Keep it plain, no emojis.", "Text only please, no emojis.",
        "No emoji please!", "Just words, please.",
    ],
]  # fmt: skip
NO_EMOJI_COMPLAINTS = [
    _sentences(("Too many ", "There were too many ", "You used too many ", "Way too many ", "That had too many ",
                 "So many ", "Again too many ", "Far too many "),
                _THINGS, (".", "!", ", please stop.", " in there.", " in that reply.", " again.", " for my taste.")),
    _sentences(("The ", "These ", "All those ", "Those "), _THINGS,
                (" annoy me.", " are annoying.", " are childish.", " have to go.", " distract me.", " are too much.")),
    _sentences(("I would like it better without ", "It would be better without ", "Better without ", "Drop the ",
                 "Please drop the ", "Lose the ", "Less ", "Remove the ", "Cut the ", "Can you stop with the ",
                 "Please no more "), _THINGS, (".", " please.")),
]  # fmt: skip
CONCISE_REQUESTS = [
    _sentences(("Be ", "Please be ", "Keep it ", "Please keep it ", "Keep your answer ", "Keep your replies ",
                 "Keep answers ", "Make it ", "Your answers should be ", "I want it ", "I like my answers "),
                _SHORT, (".", ", please.", "!")),
    _sentences(("Answer ", "Please answer ", "Reply ", "Answer only ", "Tell me ", "Say it "),
                ("briefly", "in one sentence", "in one or two sentences", "in a single sentence", "in a few words",
                 "in two sentences", "shortly"), (".", " please.")),
    _sentences(("Give me ", "Please give me ", "I only want ", "I just need ", "Always give "),
                ("a short answer", "a brief answer", "the short version", "one sentence", "a short reply",
                 "only the main point", "short replies"), (".", ", please.")),
    _sentences(("The user likes ", "The user wants ", "The user prefers ", "I prefer ", "I like ", "I want "),
                ("short answers", "brief replies", "short replies", "concise answers"), (".",)),
    [
        "At most two sentences.", "Two sentences at most.", "No long answers.", "Do not write long replies.",
        "Don't write so much.", "Do not ramble.", "One sentence is enough.", "Use few words.", "Get to the point.",
        "Skip the details.", "No details please.",
    ],
]  # fmt: skip
CONCISE_COMPLAINTS = [
    _sentences(("Much ", "Way ", "A lot ", "Far ", "A bit ", "Even ", "", "Make it ", "Please make it much ", "Write "),
               ("shorter", "briefer"), (".", "!", " please.", " next time.", ", thanks.", ", please!")),
    _sentences(("Could you ", "Can you ", "Would you ", "Please ", "You should ", "I want you to "),
               ("write less", "say less", "keep it short", "be shorter", "be brief", "get to the point",
                "use fewer words", "cut it down", "answer briefly"), (".", "?", " please.", " next time.")),
    _sentences(("That was ", "This is ", "Your answer was ", "Your reply is ", "The answer was ", ""),
                ("too long", "way too long", "much too long", "too wordy", "far too wordy", "too much text"),
                (".", "!", ", be brief.", ", please.")),
    [
        "You talk too much.", "You write too much.", "So many words.", "Too many words.", "Too many sentences.",
         "This could be shorter.",
        "I don't have time to read all that.", "I stopped reading after two sentences.", "Less text please.",
        "Way shorter, please.", "It must be shorter.", "Please answer much shorter.", "Shorter replies please.",
        "Much less text, please.", "A shorter answer next time.", "Cut it down.", "I only wanted a short answer.",
        "Please write less.", "Say less.", "Half of that is enough.", "Nobody reads that much.",
        "Please shorten your answers.", "It should be much shorter.",
    ],
]  # fmt: skip
IDENTITY_REQUESTS = [
    _sentences(("Call yourself {n}", "Please call yourself {n}", "Your name is {n}", "Your name is now {n}",
                 "You are {n}", "You are called {n}", "From now on you are {n}", "From now on your name is {n}",
                 "I will call you {n}", "I want to call you {n}", "I'd like to call you {n}", "Use the name {n}",
                 "Please use the name {n}", "Go by {n}", "Introduce yourself as {n}", "Answer as {n}", "Speak as {n}",
                 "Always say that you are {n}", "Say that your name is {n}", "Pretend your name is {n}", "Be {n}",
                 "Let your name be {n}", "You have a new name: {n}", "The user calls you {n}"),
                (".", ", please.", "!", ", not Claw.")),
    [
        "You are {n}, a helpful assistant.", "You are {n}, a personal assistant.", "You are {n}, my assistant.",
        "You are an assistant named {n}.", "You are an assistant called {n}.", "The assistant is called {n}.",
        "The name of the assistant is {n}.", "{n} is your new name.", "{n} is the name I gave you.",
        "{n} is now your name.", "{n} is what I call you.", "Your new name will be {n}.",
        "Call me friend, and I call you {n}.", "Hi {n}!", "Hello {n},", "Hey {n},",
    ],
]  # fmt: skip
IDENTITY_COMPLAINTS = [
    [
        "Your name is not Claw, it is {n}.", "I told you, you are {n}.", "Wrong name, you are {n}.",
        "It's {n}, not Claw.", "Don't call yourself Claw, call yourself {n}.",
        "Stop saying Claw, your name is {n}.", "I prefer the name {n}.", "The name should be {n}.",
        "{n} is a better name for you.", "You should call yourself {n}.", "You forgot your name: {n}.",
        "You should be called {n}.", "I like the name {n} more.", "Please say {n} instead of Claw.",
        "Not Claw. {n}.", "I want you to be called {n}.", "You said Claw, but you are {n}.",
        "Change your name to {n}.",
    ],
]  # fmt: skip

EMOJI_WANTED: Pool = [
    _sentences(("Please use ", "Use ", "Use many ", "Use lots of ", "I like ", "I love ", "Add some ", "Keep using ",
                 "Answer with ", "More ", "The user likes ", "Do use ", "Feel free to use "),
                _THINGS[:4], (".", " please.", "!")),
    [
        "The emojis are nice.", "I love your emojis, keep them.", "Great emojis!",
        "Where are the emojis? I want them.",
    ],
]  # fmt: skip
DETAIL_WANTED: Pool = [
    _sentences(("Please answer ", "Answer ", "Explain it ", "Tell me ", "Reply "),
                ("in detail", "at length", "with many details", "in many sentences"), (".", " please.")),
    [
        "Give me a long answer.", "Take your time and tell me more.", "I like long answers.", "That was too short.",
        "Too short, tell me more.", "Write more.", "More details please.", "The user likes long answers.",
        "Longer please.", "Don't be so brief.",
    ],
]  # fmt: skip
CLAW_WANTED: Pool = [
    [text.replace("{n}", "Claw") for text in group if "not Claw" not in text] for group in IDENTITY_REQUESTS
]
NEUTRAL: Pool = [
    [
        "Great answer.", "Thanks, that helped.", "I like it.", "Good.", "Perfect.", "Nice, keep it up.",
        "Very helpful.", "That was good.", "Well done.", "Exactly what I needed.", "I liked this reply.",
        "Good answer, thank you.", "This is fine.", "Correct.", "Looks good to me.", "Useful.", "You are kind.",
        "More like this please.",
    ],
]  # fmt: skip

HELD_OUT: dict[str, tuple[str, ...]] = {
    "no_emoji": (
        "don't use emojis", "Please don't use any emojis in your replies.", "No emojis, please!", "no smileys please",
        "I don't like all these emojis.", "Could you stop using emojis?", "Too many emojis for me.",
        "Please answer me without any smileys.", "The emojis are really annoying.", "Just text, no emojis.",
    ),
    "concise": (
        "be brief", "Please be more concise.", "Too long, please keep it short.", "Your answers are too long.",
        "Could you answer in one sentence?", "Please keep your answers short.", "I just want a short answer.",
        "That was too wordy for me.", "Much shorter, please.", "Get to the point please.",
    ),
    "identity": (
        "call yourself Kuro", "Your name is Kuro now.", "Please call yourself Kuro from now on.",
        "You are Kuro, not Claw!",
        "I would like to call you Kuro.", "Please introduce yourself as Kuro.", "I want you to use the name Kuro.",
        "Don't say Claw, say Kuro.", "Your new name is Kuro.", "Kuro is your name.",
    ),
}  # fmt: skip


def known(groups: Pool, preference: str) -> Pool:
    """The trainable wordings: those that equal a held-out wording but for case and marks are removed."""
    banned = {_bare(text) for text in HELD_OUT[preference]}
    return tuple(tuple(text for text in group if _bare(text.replace("{n}", "Kuro")) not in banned) for group in groups)


def _bare(text: str) -> str:
    """Lower-case letters and spaces only."""
    return "".join(mark for mark in text.lower() if mark.isalpha() or mark == " ").strip()


def pick(rng: random.Random, groups: Pool) -> str:
    """A wording; every group is as likely as every other, however many wordings it makes."""
    return rng.choice(rng.choice(groups))


REQUESTS = {
    "no_emoji": known(NO_EMOJI_REQUESTS, "no_emoji"),
    "concise": known(CONCISE_REQUESTS, "concise"),
    "identity": known(IDENTITY_REQUESTS, "identity"),
}
COMPLAINTS = {
    "no_emoji": known(NO_EMOJI_COMPLAINTS, "no_emoji"),
    "concise": known(CONCISE_COMPLAINTS, "concise"),
    "identity": known(IDENTITY_COMPLAINTS, "identity"),
}
