"""Names of models as Ollama reads them: ``[host/][namespace/]model[:tag]``."""

import re
from dataclasses import dataclass

from supervisor.errors import EngineError

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
PUBLIC_HOST = "ollama.com"  # another name of the same registry; newer stores use it for their folders
LONGEST_PART = 80

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_PART = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{LONGEST_PART - 1}}}")


@dataclass(frozen=True)
class ModelName:
    """All four parts. Two names that differ in case only are one model."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """As Ollama shows it: what goes without saying is left out, the tag is not."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace.lower() == NAMESPACE else f"{self.namespace}/{short}"

    def same(self, other: "ModelName") -> bool:
        return str(self).lower() == str(other).lower()


def parse_name(text: str) -> ModelName:
    """Raises EngineError for what Ollama would not take as a name."""
    path = re.sub(r"^https?://", "", text)
    before, colon, tag = path.rpartition(":")
    if not colon or "/" in tag:  # no tag: that was the port of a host, or nothing
        before, tag = path, TAG
    *front, model = before.split("/")
    namespace = front.pop() if front else NAMESPACE
    host = front.pop() if front else HOST
    parts = (namespace, model, tag)
    if front or not _HOST.fullmatch(host) or not all(map(_PART.fullmatch, parts)):
        raise EngineError(
            f"{text!r} is no model name for Ollama; they look like qwen3:8b or hf.co/someone/model:Q4_K_M"
        )
    return ModelName(HOST if host.lower() == PUBLIC_HOST else host, namespace, model, tag)
