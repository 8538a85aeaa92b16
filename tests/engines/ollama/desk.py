"""A Publisher before a real stand-in that holds a small random model, and a proof that only a true version passes."""

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import ollama

from supervisor.engines.engine import Version
from supervisor.engines.ollama.memory import preload
from supervisor.engines.ollama.merging import Merging
from supervisor.engines.ollama.publish import Publisher, PublishSetup
from supervisor.engines.ollama.setup import address
from supervisor.engines.ollama.store import Store
from supervisor.engines.ollama.wire import Wire
from supervisor.services.output import Output
from tests.distill.gguf_files import scaled
from tests.engines.models import Trained
from tests.fakes.ollama.quirks import Quirks
from tests.fakes.ollama.server import OllamaServer, ollama_server

BASE, ADAPTER = "small", "openclaw/assistant"
OURS = "clawlama/openclaw-assistant"
PROMPT = "<user>how are you?<|end|><assistant>"
PARAMETERS = {"num_ctx": 512, "num_thread": 1}


@dataclass
class Desk:
    """``switch`` and ``live`` are what the engine and the lesson give to the publisher."""

    server: OllamaServer
    client: ollama.AsyncClient
    folder: Path
    bare: str
    serving: str = ""
    served: list[str] = field(default_factory=list)
    believes: bool = True  # whether a changed answer is enough

    def publisher(self, choice: Any = "auto", *, store: bool = True, adapter: str = ADAPTER) -> Publisher:
        async def server() -> str:
            return f"{self.server.url} {(await self.server.quirks()).version}"

        setup = PublishSetup(BASE, adapter, choice, self.folder / "ollama.json", self.folder / "scratch", server)
        made = Publisher(self.client, setup, self.merging)
        made.parameters = PARAMETERS
        made.store = Store(self.server.models) if store else None
        return made

    @property
    def merging(self) -> Merging:
        return Merging(dict(os.environ), Output("merge"), "test", self.folder / "scratch")

    async def switch(self, tag: str) -> None:
        wire = Wire(address(self.server.url))
        async with aclosing(wire):
            await preload(wire.ask, tag)
        self.serving = tag
        self.served.append(tag)

    async def live(self) -> bool:
        """What answers is not the bare model."""
        return self.believes and await self.says(self.serving) != self.bare

    async def says(self, tag: str) -> str:
        options = {"temperature": 0.0, "num_predict": 8, "repeat_penalty": 1.0}
        return str((await self.client.generate(model=tag, prompt=PROMPT, raw=True, options=options)).response)

    async def tags(self) -> set[str]:
        return {str(one.model) for one in (await self.client.list()).models}

    @property
    def blobs(self) -> set[str]:
        return {path.name for path in (self.server.models / "blobs").iterdir()}

    @property
    def unused(self) -> set[str]:
        """Blobs that no manifest mentions."""
        return self.blobs - Store(self.server.models).used()


@asynccontextmanager
async def desk(
    model: Trained, folder: Path, env: Mapping[str, str] | None = None, **quirks: Any
) -> AsyncIterator[Desk]:
    with anyio.fail_after(150):
        async with ollama_server(folder / "server", Quirks(**quirks), env) as server:
            client = ollama.AsyncClient(server.url, trust_env=False, timeout=60)
            digest = await client.create_blob(model.base / "model.gguf")
            await client.create(
                model=BASE, files={"model.gguf": digest}, system="Be kind.", parameters={"top_k": 7}, license="Free"
            )
            made = Desk(server, client, folder, bare="")
            made.bare = await made.says(BASE)
            yield made
            await client.close()  # type: ignore[no-untyped-call]


def version(model: Trained, folder: Path, number: int = 1) -> Version:
    """Versions that differ in how strongly they change the model."""
    path = folder / f"v{number:04d}.gguf"
    if number == 1:
        shutil.copy(model.version.gguf, path)
    else:
        scaled(model.version.gguf, path, 1.0 + number / 10)
    return Version(path.stem, path)
