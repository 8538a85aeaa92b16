"""``python -m tests.fakes.ollama``: the commands of Ollama that a supervisor uses, and ``registry``."""

import argparse
import os
import sys
from pathlib import Path

import httpx
import uvicorn

from tests.fakes.ollama import quirks, settings
from tests.fakes.ollama.app import ollama_app
from tests.fakes.ollama.quirks import Switchboard
from tests.fakes.ollama.registry import registry_app


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ollama", description="A stand-in for Ollama")
    parser.add_argument("-v", "--version", action="store_true")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve")
    commands.add_parser("list", aliases=["ls"])
    registry = commands.add_parser("registry")
    registry.add_argument("folder", type=Path)
    registry.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args(arguments)
    environment = settings.read(os.environ)
    if chosen.version:
        return version(environment)
    if chosen.command == "serve":
        return serve(environment)
    if chosen.command in {"list", "ls"}:
        return show_list(environment)
    if chosen.command == "registry":
        uvicorn.run(registry_app(chosen.folder), host="127.0.0.1", port=chosen.port, log_level="warning")
        return 0
    parser.print_help()
    return 0


def serve(environment: settings.Environment) -> int:
    board = Switchboard(quirks.from_environment(os.environ))
    sys.stderr.write(f"Listening on {environment.host}:{environment.port} (version {board.now.version})\n")
    config = uvicorn.Config(
        ollama_app(environment, board),
        host=environment.host,
        port=environment.port,
        log_level="warning",
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


def version(environment: settings.Environment) -> int:
    mine = quirks.from_environment(os.environ).version
    try:
        theirs = httpx.get(f"{address(environment)}/api/version", trust_env=False).json()["version"]
    except httpx.TransportError:
        sys.stdout.write(
            f"Warning: could not connect to a running Ollama instance\nWarning: client version is {mine}\n"
        )
        return 0
    sys.stdout.write(f"ollama version is {theirs}\n")
    return 0


def show_list(environment: settings.Environment) -> int:
    try:
        models = httpx.get(f"{address(environment)}/api/tags", trust_env=False).json()["models"]
    except httpx.TransportError:
        sys.stderr.write("Error: could not connect to ollama server, run 'ollama serve' to start it\n")
        return 1
    sys.stdout.write(f"{'NAME':<40}{'ID':<16}{'SIZE':<10}MODIFIED\n")
    for model in models:
        size = f"{model['size'] / 1e6:.1f} MB"
        sys.stdout.write(f"{model['name']:<40}{model['digest'][:12]:<16}{size:<10}{model['modified_at']}\n")
    return 0


def address(environment: settings.Environment) -> str:
    host = "127.0.0.1" if environment.host == "0.0.0.0" else environment.host
    return f"http://{host}:{environment.port}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
