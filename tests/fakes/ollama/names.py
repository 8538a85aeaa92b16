"""Model names: ``[host/][namespace/]model[:tag]``, kept in the case they came in, compared without it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

HOST = "registry.ollama.ai"
PUBLIC_HOSTS = (HOST, "ollama.com")
NAMESPACE = "library"
TAG = "latest"
PARTS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}


class InvalidName(ValueError):
    """Not a model name."""


@dataclass(frozen=True)
class Name:
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def shortest(self) -> str:
        """As the API shows it: public host and ``library`` left out, the tag always there."""
        if self.host.lower() not in PUBLIC_HOSTS:
            return self.full
        if self.namespace.lower() == NAMESPACE:
            return f"{self.model}:{self.tag}"
        return f"{self.namespace}/{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def repository(self) -> str:
        return f"{self.namespace}/{self.model}"

    def spelled_like(self, existing: Iterable["Name"]) -> "Name":
        """The same name, each part in the case in which the store already has it."""
        found = self
        for other in existing:
            for part in PARTS:
                theirs = getattr(other, part)
                if theirs.lower() == getattr(self, part).lower():
                    found = replace(found, **{part: theirs})
        return found


def parse(text: str) -> Name:
    """Raises InvalidName."""
    text = re.sub(r"^https?://", "", text)
    path, _, tag = text.rpartition(":") if ":" in text.rpartition("/")[2] else (text, "", TAG)
    *front, model = path.split("/")
    if len(front) > 2:
        raise InvalidName(text)
    host, namespace = (front if len(front) == 2 else [HOST, *front]) if front else (HOST, NAMESPACE)
    for part, value in {"host": host, "namespace": namespace, "model": model, "tag": tag}.items():
        if not PARTS[part].fullmatch(value):
            raise InvalidName(text)
    return Name(HOST if host.lower() in PUBLIC_HOSTS else host, namespace, model, tag)
