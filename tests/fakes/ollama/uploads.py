"""HEAD and POST /api/blobs/DIGEST."""

import hashlib
import secrets

from starlette.requests import Request
from starlette.responses import Response

from tests.fakes.ollama.failures import Refused, bad_request
from tests.fakes.ollama.store import Store


class Uploads:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def head(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if not self._store.blob(digest).exists():
            raise Refused(404, f'blob "{digest}" not found')
        return Response()

    async def post(self, request: Request) -> Response:
        """201; 200 when the blob was there. What was sent is kept under the digest that it really has."""
        digest = request.path_params["digest"]
        if self._store.blob(digest).exists():
            return Response()
        temporary = self._store.blobs / f"sha256-{secrets.token_hex(5)}"
        found = hashlib.sha256()
        try:
            with temporary.open("wb") as file:
                async for data in request.stream():
                    found.update(data)
                    file.write(data)
            real = f"sha256:{found.hexdigest()}"
            temporary.replace(self._store.blob(real))
        finally:
            temporary.unlink(missing_ok=True)
        if real != digest.replace("-", ":"):
            raise bad_request(f'digest mismatch, expected "{digest}", got "{real}"')
        return Response(status_code=201)
