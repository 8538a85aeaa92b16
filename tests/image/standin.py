"""The stand-in for Ollama in the image that CI builds: ``ollama serve`` has a registry beside it, and needs no network.

The registry has the bundled tiny model under the names that we recommend, and as ``tiny``: whatever a machine is told
to pull, it gets weights that chat. ``STANDIN_QUIRKS`` with a registry of its own wins.
"""

import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn

from supervisor.plan.catalog import CATALOG
from supervisor.plan.models import bundled
from tests.fakes.ollama.__main__ import main
from tests.fakes.ollama.registry import publish, registry_app
from tests.fakes.ports import free_port


def registry(folder: Path) -> str:
    """Serve from a thread, which ends with us; returns the address."""
    weights = bundled("tiny-chat") / "tiny-chat.gguf"
    for name in ("tiny", *CATALOG):
        repository, _, tag = name.partition(":")
        publish(folder, f"library/{repository}", tag or "latest", weights, params={"temperature": 0.0, "top_k": 40})
    port = free_port()
    config = uvicorn.Config(registry_app(folder), host="127.0.0.1", port=port, log_level="warning")
    threading.Thread(target=uvicorn.Server(config).run, daemon=True).start()
    return f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    quirks = os.environ.get("STANDIN_QUIRKS", "{}")
    if sys.argv[1:2] == ["serve"] and quirks.startswith("{") and "registry" not in quirks:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["STANDIN_QUIRKS"] = json.dumps({"registry": registry(Path(folder)), **json.loads(quirks)})
            sys.exit(main(sys.argv[1:]))
    sys.exit(main(sys.argv[1:]))
