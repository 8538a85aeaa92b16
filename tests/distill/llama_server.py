"""The embedded llama.cpp in a process of its own, because a failed assertion inside it ends the process."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
from anyio.streams.text import TextReceiveStream

CONTEXT = 2048  # tokens that it keeps
_PROGRAM = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path = sys.argv[1]
p.port, p.hostnames, p.ui = 0, ["127.0.0.1"], False
p.n_ctx, p.n_parallel, p.cache_ram_mib, p.fit_params, p.warmup = int(sys.argv[3]), 1, 0, False, False
p.cpuparams.n_threads = 1
# The cache in full precision: what remains is the file under test.
p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.use_jinja, p.verbosity = True, int(sys.argv[2])
if len(sys.argv) > 4:
    p.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(sys.argv[4], 1.0)]
server = xllamacpp.Server(p)
print("listening", server.listening_address, flush=True)
sys.stdin.read()
"""


class Served:
    """A client of one running server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def post(self, path: str, body: dict[str, object]) -> dict[str, object]:
        answer = await self._client.post(path, json=body)
        answer.raise_for_status()
        parsed: dict[str, object] = answer.json()
        return parsed

    async def greedy(self, ids: list[int], count: int) -> list[int]:
        """The next ``count`` tokens, fewer when the reply ends before; its end mark is the last of them."""
        body = {"prompt": ids, "n_predict": count, "samplers": ["top_k"], "top_k": 1, "return_tokens": True}
        tokens = (await self.post("/completion", body))["tokens"]
        assert isinstance(tokens, list)
        return tokens


@asynccontextmanager
async def served(model: Path, adapter: Path | None = None, *, tells_all: bool = False) -> AsyncIterator[Served]:
    """``tells_all``: chat replies say in ``__verbose`` which tokens were read and sampled."""
    verbosity = "10" if tells_all else "3"
    argv = [sys.executable, "-c", _PROGRAM, str(model), verbosity, str(CONTEXT), *([str(adapter)] if adapter else [])]
    async with await anyio.open_process(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        heard = ""
        async for text in TextReceiveStream(process.stdout):
            heard += text
            if "\n" in heard:
                break
        assert heard.startswith("listening"), f"llama.cpp did not load {model.name} ({adapter})"
        address = heard.split()[1]
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            yield Served(client)
        await process.stdin.aclose()
        await process.wait()
