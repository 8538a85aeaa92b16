"""Which of Ollama's other routes pass our door: those that look and those that compute, none that changes its store."""

from collections.abc import Collection, Mapping
from typing import Any

from supervisor.engines.ollama.model import canonical
from supervisor.errors import RequestError

LOOKS = {  # touch no weights, so they need not wait for the model
    "/api/version": ("GET", "HEAD"),
    "/api/tags": ("GET", "HEAD"),
    "/api/ps": ("GET",),
    "/api/show": ("POST",),
    "/api/pull": ("POST",),
}
COMPUTES = {  # /api/chat and /api/generate come this way when they only load or unload a model
    "/api/embed": ("POST",),
    "/api/embeddings": ("POST",),
    "/v1/embeddings": ("POST",),
    "/api/chat": ("POST",),
    "/api/generate": ("POST",),
}
CLOSED = {
    "/api/create": "it could replace the model that learns; adapter versions are published by ClawLama itself",
    "/api/copy": "it could replace the model that learns; name the models you want in CLAWLAMA_MODELS",
    "/api/delete": "it could delete the model that learns; remove models with Ollama's own command line",
    "/api/push": "it would send your model to the internet; export the adapter with GET /v1/lora/export instead",
    "/api/blobs": "it could fill the disk with files of any kind; name the models you want in CLAWLAMA_MODELS",
}


def check(method: str, path: str) -> None:
    """Raises RequestError: 403 for what is closed, 404 for what we do not know, 405 for another method."""
    for closed, why in CLOSED.items():
        if path == closed or path.startswith(f"{closed}/"):
            raise RequestError(403, f"{path} is closed here: {why}")
    methods = LOOKS.get(path) or COMPUTES.get(path)
    if methods is None:
        known = ", ".join((*LOOKS, *COMPUTES))
        raise RequestError(404, f"there is no {path} here; of Ollama's routes these are open: {known}")
    if method not in methods:
        raise RequestError(405, f"{path} takes {' or '.join(methods)}, not {method}")


def asked_model(body: Mapping[str, Any]) -> str | None:
    """The model that a body names; older clients call it ``name``."""
    model = body.get("model") or body.get("name")
    return model if isinstance(model, str) else None


def check_pull(model: str | None, configured: Collection[str]) -> None:
    """Only what the user configured may be pulled: anything else could fill the disk. Raises RequestError."""
    if model is None or canonical(model) not in {canonical(one) for one in configured}:
        raise RequestError(
            403,
            f"{model or 'a model'} is not configured, so it is not pulled; add it to CLAWLAMA_MODELS and start again",
        )
