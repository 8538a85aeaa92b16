"""One model in memory: llama.cpp's server as a child process, ``python -m tests.fakes.ollama.runner CONFIG``.

Like Ollama's own runners it stays in the server's process group, and (with ``orphan``) outlives a SIGKILL of it.
It says where it listens in one line on stdout.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anyio
import httpx
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from supervisor.engines.llama_server import end_with
from tests.fakes.ollama.failures import Refused

TIMEOUT = httpx.Timeout(10.0, read=600.0)


@dataclass(frozen=True)
class RunnerConfig:
    """``context`` is in tokens per request."""

    weights: str
    adapters: Sequence[str]
    context: int
    parallel: int
    threads: int
    batch: int
    parent: int | None  # the process whose end is also this one's


@dataclass
class Child:
    process: Process
    client: httpx.AsyncClient

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The parsed answer. Raises Refused with what llama.cpp said."""
        try:
            answer = await self.client.post(path, json=body)
        except httpx.TransportError as exc:
            raise Refused(500, f"llama runner process has terminated: {exc or type(exc).__name__}") from exc
        if not answer.is_success:
            raise Refused(400 if answer.status_code < 500 else 500, complaint(answer))
        return answer.json()

    async def end(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.client.aclose()
            if self.alive:
                self.process.kill()
            await self.process.aclose()


def complaint(answer: httpx.Response) -> str:
    """llama.cpp's own message out of ``{"error": {"message": ...}}``."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()


async def start(config: RunnerConfig) -> Child:
    """Return once the model is loaded. Raises Refused in Ollama's words when it does not load."""
    process = await anyio.open_process(
        [sys.executable, "-m", "tests.fakes.ollama.runner", json.dumps(asdict(config))], stderr=None
    )
    assert process.stdout is not None
    try:
        line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)
    except (anyio.IncompleteRead, anyio.EndOfStream) as exc:
        code = await process.wait()
        raise Refused(500, f"llama runner process has terminated: exit status {code}") from exc
    except BaseException:  # cancelled while it loads: nobody else knows of the child
        with anyio.CancelScope(shield=True):
            process.kill()
            await process.aclose()
        raise
    client = httpx.AsyncClient(base_url=line.decode(), timeout=TIMEOUT, trust_env=False)
    return Child(process, client)


def main(config: RunnerConfig) -> int:
    if config.parent is not None:
        end_with(config.parent)
    say = os.dup(1)
    os.dup2(2, 1)  # llama.cpp's own words belong into the log
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    server = serve(config)
    os.write(say, f"{server.listening_address}\n".encode())
    signal.sigwait(stop_signals)
    return 0


def serve(config: RunnerConfig) -> Any:
    import xllamacpp  # native code that may end the process: only in this child

    params = xllamacpp.CommonParams()
    params.model.path = config.weights
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.verbosity = 1
    params.n_parallel = config.parallel
    params.n_ctx = config.context * config.parallel
    params.n_batch = config.batch
    params.kv_unified = False
    params.cpuparams.n_threads = config.threads
    params.cpuparams_batch.n_threads = config.threads
    params.cache_ram_mib = 0
    params.no_extra_bufts = True
    params.fit_params = False
    params.use_jinja = True
    params.ctx_shift = True
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in config.adapters]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    code = main(RunnerConfig(**json.loads(sys.argv[1])))
    os._exit(code)  # llama.cpp's threads have nothing to save and may take their time
