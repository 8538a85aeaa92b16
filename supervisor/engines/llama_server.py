"""The embedded llama.cpp as a process of its own: ``python -m supervisor.engines.llama_server CONFIG``.

llama.cpp ends the process on a failed assertion, and one of its servers holds one set of adapters for life; so it runs
in a child that is started anew for each adapter version. CONFIG and the endpoint file are private to this user.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

PR_SET_PDEATHSIG = 1


class LlamaConfig(BaseModel, frozen=True, extra="forbid"):
    """What the child serves. ``context`` is in tokens per request; sampling values that are None are llama.cpp's."""

    name: str
    gguf: Path
    adapter: Path | None
    context: int
    parallel: int
    threads: int
    temperature: float | None
    top_p: float | None
    top_k: int | None
    key: str
    endpoint: Path
    parent: int


class Endpoint(BaseModel, frozen=True, extra="forbid"):
    """Where a child listens; written once it does. ``key`` tells a fresh file from an older child's."""

    url: str
    key: str
    pid: int


def main(path: Path) -> int:
    config = LlamaConfig.model_validate_json(path.read_text())
    end_with(config.parent)
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)  # before llama.cpp makes threads, so that we get them
    server = serve(config)
    fresh = config.endpoint.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(Endpoint(url=server.listening_address, key=config.key, pid=os.getpid()).model_dump_json())
    fresh.replace(config.endpoint)
    signal.sigwait(stop_signals)
    return 0


def serve(config: LlamaConfig) -> Any:  # noqa: ANN401 - xllamacpp has no types
    import xllamacpp  # native code that may end the process: only in this child

    params = xllamacpp.CommonParams()
    params.model.path = str(config.gguf)
    params.model_alias = {config.name}  # else replies carry the path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config.key]
    params.ui = False
    params.verbosity = 2  # warnings and errors
    params.n_parallel = config.parallel
    params.n_ctx = config.context * config.parallel
    params.kv_unified = False
    params.cpuparams.n_threads = config.threads
    params.cpuparams_batch.n_threads = config.threads
    params.cache_idle_slots = False
    params.cache_ram_mib = 0  # a cached prompt would outlive a switch between tuned and bare model
    params.no_extra_bufts = True  # repacked weights cost 60 % more memory
    params.fit_params = False
    params.use_jinja = True
    params.endpoint_slots = False
    if config.temperature is not None:
        params.sampling.temp = config.temperature
    if config.top_p is not None:
        params.sampling.top_p = config.top_p
    if config.top_k is not None:
        params.sampling.top_k = config.top_k
    if config.adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(config.adapter), 1.0)]
    return xllamacpp.Server(params)


def end_with(parent: int) -> None:
    """Have the kernel end us when the supervisor dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit("the supervisor is gone")


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # llama.cpp's threads have nothing to save and may take their time
