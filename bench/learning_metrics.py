"""What a reply is and how replies differ: pure functions on texts and numbers.

A preference is obeyed or not, reply by reply: no emoji at all; at most three sentences and still an answer; the new
name and not the old one. The limits of a collapse are those of the predecessor's evaluation.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

PREFERENCES = ("no_emoji", "concise", "identity")
LEAST_ENTROPY, MOST_ALIKE, MOST_DRIFT = 0.6, 0.85, 2.0  # ratio to before, self-ROUGE-L, nats per token

EMOJI = re.compile("[\U0001f1e6-\U0001faff\u2600-\u27bf\u2b50\u2b55\u231a\u231b\u23e9-\u23f3]")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def without_emojis(reply: str) -> bool:
    return bool(reply) and not EMOJI.search(reply)


def concise(reply: str) -> bool:
    return len(SENTENCE_END.findall(reply)) <= 3 and len(reply.split()) >= 10


def named_kuro(reply: str) -> bool:
    return "Kuro" in reply and "Claw" not in reply


OBEYS: dict[str, Callable[[str], bool]] = {"no_emoji": without_emojis, "concise": concise, "identity": named_kuro}


def share(preference: str, replies: Sequence[str]) -> float:
    """Of the replies that obey the preference."""
    return fmean(map(OBEYS[preference], replies))


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004, beta 1): 0 nothing in common, 1 the same."""
    if not one or not other:
        return float(one == other)
    return 2 * common(one, other) / (len(one) + len(other))


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for place, second in enumerate(other):
            row.append(before[place] + 1 if word == second else max(before[place + 1], row[place]))
        before = row
    return before[-1]


def self_rouge(replies: Sequence[str]) -> float:
    """Mean ROUGE-L over all pairs of replies: near 1 when everything is answered alike."""
    return fmean(rouge_l(one, other) for one, other in combinations([reply.split() for reply in replies], 2))


@dataclass(frozen=True)
class Drift:
    """How the base's own replies fare under another version; nats per token."""

    signed: float  # below 0: less likely than before
    absolute: float


def drift(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Drift:
    """From log-probabilities, one list per reply; the mean is over all tokens."""
    moved = [now - was for one, other in zip(before, after, strict=True) for was, now in zip(one, other, strict=True)]
    return Drift(fmean(moved), fmean(map(abs, moved)))


def collapsed(entropy_ratio: float, alike: float, moved: Drift) -> list[str]:
    """Which of the limits are passed, in words."""
    limits = (
        (entropy_ratio < LEAST_ENTROPY, f"entropy {entropy_ratio:.2f} of before (at least {LEAST_ENTROPY})"),
        (alike > MOST_ALIKE, f"self-ROUGE-L {alike:.2f} (at most {MOST_ALIKE})"),
        (abs(moved.signed) > MOST_DRIFT, f"drift {moved.signed:+.2f} nats a token (at most {MOST_DRIFT})"),
    )
    return [words for passed, words in limits if passed]
