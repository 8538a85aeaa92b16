from pathlib import Path

import pytest

from supervisor.plan.choose import Choice, choose
from tests.plan.machines import settings


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ({}, Choice("llama", "tiny-chat")),
        ({"model": "./weights"}, Choice("llama", "./weights")),
        ({"model": "qwen3:8b"}, Choice("ollama", "qwen3:8b")),
        ({"model": "hf.co/someone/model:Q4_K_M"}, Choice("ollama", "hf.co/someone/model:Q4_K_M")),
        ({"model": "Mine-Q4_K_M.gguf"}, Choice("llama", "Mine-Q4_K_M.gguf")),
        ({"model": "hf.co/someone/model:Q4_K_M.gguf"}, Choice("ollama", "hf.co/someone/model:Q4_K_M.gguf")),
        ({"engine": "ollama"}, Choice("ollama", "recommended:4b")),
        ({"engine": "ollama", "model": "tiny-chat"}, Choice("llama", "tiny-chat")),
        ({"engine": "llama", "model": "qwen3:8b"}, Choice("llama", "qwen3:8b")),
    ],
)
def test_the_engine_goes_by_the_model_what_lies_on_disk_is_not_ollamas(said: dict[str, str], choice: Choice) -> None:
    assert choose(settings(**said), "recommended:4b") == choice


def test_a_folder_that_exists_is_no_name_for_ollama(tmp_path: Path) -> None:
    assert choose(settings(model=str(tmp_path)), "any").engine == "llama"
