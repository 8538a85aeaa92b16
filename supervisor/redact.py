"""Takes secrets out of what is printed: those we know, in any spelling, and what looks like one."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote

SHOWN: Final = "[secret]"
SHORTEST: Final = 8  # characters; less is a word, and words are not taken out of a log

# What looks like a secret: a text that every such place holds, looked for first because it is quick to find, the
# pattern, and what stays. A pattern begins with plain characters where it can, for the same reason.
LOOKS: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = tuple(
    (needle, re.compile(pattern), shown)
    for needle, pattern, shown in (
        ("://", r"://[^\s/@\"'<>]+@", f"://{SHOWN}@"),
        (":", r":(?<=\d{6}:)[A-Za-z0-9_-]{30,}", f":{SHOWN}"),  # Telegram: the bot's number, its secret
        ("uthorization", r"(uthorization[\"']?\s*[:=]\s*[\"']?)(?:\w+\s+)?[^\s\"',;]+", rf"\1{SHOWN}"),
        ("earer ", r"earer\s+[A-Za-z0-9._~+/=-]{8,}", f"earer {SHOWN}"),
        ("oken", r"(oken\\?[\"']?\s*[:=]\s*\\?[\"']?)[A-Za-z0-9._~+/=-]{16,}", rf"\1{SHOWN}"),
        ("ecret", r"(ecret\\?[\"']?\s*[:=]\s*\\?[\"']?)[A-Za-z0-9._~+/=-]{16,}", rf"\1{SHOWN}"),
        ("assword", r"(assword\\?[\"']?\s*[:=]\s*\\?[\"']?)[^\s\"',;&]{4,}", rf"\1{SHOWN}"),
        ("ey", r"(pi[_-]?[kK]ey\\?[\"']?\s*[:=]\s*\\?[\"']?)[A-Za-z0-9._~+/=-]{12,}", rf"\1{SHOWN}"),
        ("KEY", r"(API_KEY\s*[:=]\s*[\"']?)[A-Za-z0-9._~+/=-]{12,}", rf"\1{SHOWN}"),
        ("hf_", r"hf_[A-Za-z0-9]{20,}", SHOWN),
        ("sk-", r"sk-[A-Za-z0-9_-]{20,}", SHOWN),
    )
)


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """For ``Output.redact``: whole lines in, the same lines without secrets out, no line break touched."""
    known = sorted({one for secret in secrets if len(secret) >= SHORTEST for one in spellings(secret)}, key=len)

    def redacted(text: str) -> str:
        for one in reversed(known):  # the longest first: a shorter one may be a part of it
            text = text.replace(one, SHOWN)
        for needle, pattern, shown in LOOKS:
            if needle in text:
                text = pattern.sub(shown, text)
        return text

    return redacted


def spellings(secret: str) -> set[str]:
    """The secret itself, as it stands in a URL and in JSON, in hex, in base64."""
    raw = secret.encode()
    coded = (base64.b64encode(raw), base64.urlsafe_b64encode(raw))
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        raw.hex(),
        raw.hex().upper(),
        *(code.decode().rstrip("=") for code in coded),
    }
