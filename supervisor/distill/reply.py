"""What a recorded reply may have been as text, before an engine parted it into thoughts, words and calls.

Templates trim what they are given and write spaces, line breaks and empty thoughts around it; engines hand over the
words as they were written, or stripped. So one record may have been several texts.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from supervisor.distill.job import Message, Sample

EMPTY_THOUGHT = re.compile(r"\A<(\w+)>\s*</\1>\s*")


@dataclass(frozen=True)
class Written:
    """A sample's reply and how the template continues the prompt with a reply."""

    sample: Sample
    marks: Sequence[str]  # tokens that are no text
    continued: Callable[[Message], str]

    @cached_property
    def rendered(self) -> str:
        """As the template writes it."""
        return self.ended(self.continued(self.sample.reply))

    @cached_property
    def closing(self) -> str | None:
        """The mark that closes the turn: the first of those with which the template ends."""
        found = self.end_of(self.continued(self.sample.reply))
        return found["mark"] if found else None

    def ended(self, text: str) -> str:
        """Up to the mark that closes the turn, which stays if the model wrote it; a reply that was cut off ends with
        the last thing in it."""
        found = self.end_of(text)
        if self.sample.closed:
            return text[: found.end("mark")] if found else text
        reply = self.sample.reply
        last = "" if reply.get("tool_calls") else str(reply.get("content") or reply.get("reasoning_content") or "")
        for words in filter(None, (last, last.strip())):
            if words in text:
                return text[: text.rindex(words) + len(words)]
        return text[: found.start() if found else len(text)]

    def end_of(self, text: str) -> re.Match[str] | None:
        either = "|".join(map(re.escape, self.marks))
        return re.search(rf"(?P<mark>{either})(?:\s|{either})*\Z", text) if either else None


def spellings(written: Written) -> Iterator[str]:
    """The texts that the reply may have been, the likeliest first."""
    reply = written.sample.reply
    words = str(reply.get("content") or "")
    if not (reply.get("tool_calls") or reply.get("reasoning_content")):
        yield words + ((written.closing or "") if written.sample.closed else "")
    texts = [written.rendered]
    if words != words.strip():
        texts.append(written.ended(written.continued({**reply, "content": words.strip()})))
    for text in texts:
        yield text
        yield EMPTY_THOUGHT.sub("", text)  # some templates write one where there was none
