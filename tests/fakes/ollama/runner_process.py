"""One model in memory: llama.cpp's server as a process, ``python -m tests.fakes.ollama.runner_process CONFIG``.

Like Ollama's own runners it stays in the server's process group and, without ``parent``, outlives a SIGKILL of it.
It says where it listens in one line on stdout. It starts often, so it imports little.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class RunnerConfig:
    """``context`` is in tokens per request."""

    weights: str
    adapters: Sequence[str]
    context: int
    parallel: int
    threads: int
    batch: int
    shift: bool
    parent: int | None  # the process whose end is also this one's


def main(config: RunnerConfig) -> int:
    if config.parent is not None:
        end_with(config.parent)
    say = os.dup(1)
    os.dup2(2, 1)  # llama.cpp's own words belong into the log
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)  # before llama.cpp makes threads, so that we get them
    server = serve(config)
    os.write(say, f"{server.listening_address}\n".encode())
    signal.sigwait(stop_signals)
    return 0


def end_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit("the server is gone")


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
    params.ctx_shift = config.shift
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in config.adapters]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    code = main(RunnerConfig(**json.loads(sys.argv[1])))
    os._exit(code)  # llama.cpp's threads have nothing to save and may take their time
