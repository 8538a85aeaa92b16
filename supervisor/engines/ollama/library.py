"""The models that the user configured: the one that learns, which everything waits for, and further ones beside it."""

from shutil import disk_usage

import anyio
import httpx
import ollama
import structlog

from supervisor.engines.ollama.model import canonical, facts_of, read_show, stored_model, usual_places
from supervisor.engines.ollama.pull import Puller, PullProgress, Report
from supervisor.engines.ollama.setup import OllamaSetup
from supervisor.engines.ollama.store import Store
from supervisor.errors import EngineError
from supervisor.plan.models import BaseModelFacts

AGAIN_IN = 900.0  # seconds

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Library:
    """``own_server``: we started the server, so its models lie where we told it."""

    def __init__(self, client: ollama.AsyncClient, setup: OllamaSetup) -> None:
        self.own_server = False
        self.others: tuple[str, ...] = ()  # further models that are there
        self.downloads: dict[str, str] = {}  # further models that are not: what is done, or what went wrong
        self._client = client
        self._setup = setup
        self._place = setup.models  # where the server keeps its models, as far as we know
        self._puller = Puller(client, self._free_space, setup.known_models)

    async def ensure_base(self, report: Report) -> None:
        """Pull the base model unless it is there. Raises PullFailed, EngineError."""
        if not await self._has(self._setup.base):
            await self._puller.pull(self._setup.base, report)

    async def pull_others(self, *, again_in: float = AGAIN_IN) -> None:
        """Return once all further models are offered, each as soon as it is there; what fails is tried again later."""
        missing = [model for model in self._setup.others if not await self._offered(model, pull=False)]
        while missing := [model for model in missing if not await self._offered(model, pull=True)]:  # noqa: ASYNC110
            await anyio.sleep(again_in)

    async def base_facts(self) -> tuple[BaseModelFacts, Store | None]:
        """What the base model is, and the store it lies in, where that can be read. Raises EngineError."""
        name = self._setup.base
        try:
            shown = read_show(name, await self._client.show(name))
            listed = (await self._client.list()).models
        except (ollama.ResponseError, httpx.TransportError, ConnectionError) as exc:
            raise EngineError(f"Ollama does not say what {name} is: {exc or type(exc).__name__}") from exc
        entry = next((one for one in listed if one.model and canonical(one.model) == canonical(name)), None)
        if entry is None:
            raise EngineError(f"Ollama does not list {name} any more; start again to pull it")
        places = usual_places(self._setup.models, self._setup.own_models, shown.blob)
        store, stored, problem = await anyio.to_thread.run_sync(stored_model, places, name, entry.digest)
        self._place = store.root if store else self._place
        return facts_of(name, int(entry.size or 0), shown, stored, problem), store

    async def _offered(self, model: str, *, pull: bool) -> bool:
        """Whether it is there; if so, it is served from now on."""

        def tell(progress: PullProgress) -> None:
            self.downloads[model] = str(progress)

        try:
            if not await self._has(model):
                if not pull:
                    return False
                await self._puller.pull(model, tell)
        except EngineError as exc:
            log.warning("model not offered", model=model, problem=str(exc))
            self.downloads[model] = str(exc)
            return False
        self.downloads.pop(model, None)
        self.others = tuple(dict.fromkeys((*self.others, model)))
        return True

    async def _has(self, model: str) -> bool:
        try:
            await self._client.show(model)
        except ollama.ResponseError as exc:
            if exc.status_code == httpx.codes.NOT_FOUND:
                return False
            raise EngineError(f"Ollama does not say whether it has {model}: {exc.error}") from exc
        except (httpx.TransportError, ConnectionError) as exc:
            raise EngineError(f"Ollama does not say whether it has {model} ({exc or type(exc).__name__})") from exc
        return True

    def _free_space(self) -> int | None:
        """Bytes left where the server keeps its models; None where that is not known to be on this machine."""
        place = self._setup.own_models if self.own_server else self._place
        return disk_usage(place).free if place is not None and place.is_dir() else None
