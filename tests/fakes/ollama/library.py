"""The routes around models at rest: list, show, pull, create, copy, delete."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tests.fakes.ollama import openai
from tests.fakes.ollama.answer import Answer, Chunks, whole
from tests.fakes.ollama.create import Creator
from tests.fakes.ollama.failures import Refused, bad_request, unknown_model
from tests.fakes.ollama.models import listed, shown
from tests.fakes.ollama.names import InvalidName, Name
from tests.fakes.ollama.pull import Puller
from tests.fakes.ollama.requests import body_of, named
from tests.fakes.ollama.store import Store, Stored


class Library:
    def __init__(self, store: Store, puller: Puller, creator: Creator) -> None:
        self._store = store
        self._puller = puller
        self._creator = creator

    async def tags(self, _request: Request) -> Response:
        return whole({"models": [listed(model) for model in self._store.all()]})

    async def show(self, request: Request) -> Response:
        body = await body_of(request)
        given = named(body)
        if not given:
            raise bad_request("model is required")
        return whole(shown(self.found(given), verbose=bool(body.get("verbose"))))

    async def pull(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        return progress(self._puller.pull(self._name(named(body), "invalid model name")), body)

    async def push(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        if not named(body):
            raise bad_request("model is required")

        async def refuse() -> Chunks:
            yield {"status": "retrieving manifest"}
            raise Refused(500, "you must be signed in to push")

        return progress(refuse(), body)

    async def create(self, request: Request) -> ASGIApp:
        body = await body_of(request)
        return progress(self._creator.create(self._creator.check(body), body), body)

    async def copy(self, request: Request) -> Response:
        body = await body_of(request)
        given, wanted = str(body.get("source", "")), str(body.get("destination", ""))
        source = self._name(given, f'source "{given}" is invalid')
        target = self._name(wanted, f'destination "{wanted}" is invalid')
        try:
            await self._store.copy(source, target)
        except FileNotFoundError as exc:
            raise Refused(404, f'model "{given}" not found') from exc
        return Response()

    async def delete(self, request: Request) -> Response:
        given = named(await body_of(request))
        name = self._name(given, f'name "{given}" is invalid')
        try:
            self._store.remove(name)
        except FileNotFoundError as exc:
            raise unknown_model(given) from exc
        return Response()

    async def openai_models(self, _request: Request) -> Response:
        models = [openai.model_entry(m.name.shortest, m.name.namespace, m.modified) for m in self._store.all()]
        return whole({"object": "list", "data": models})

    async def openai_model(self, request: Request) -> Response:
        given = request.path_params["model"]
        model = self.found(given)
        return whole(openai.model_entry(given, model.name.namespace, model.modified))

    def found(self, given: str) -> Stored:
        """Raises Refused."""
        try:
            return self._store.read(self._store.existing(given))
        except (InvalidName, FileNotFoundError) as exc:
            raise unknown_model(given) from exc

    def _name(self, given: str, complaint: str) -> Name:
        try:
            return self._store.existing(given)
        except InvalidName as exc:
            raise bad_request(complaint) from exc


def progress(chunks: Chunks, body: Mapping[str, Any]) -> Answer:
    return Answer(chunks, join=(lambda found: found[-1]) if body.get("stream") is False else None)
