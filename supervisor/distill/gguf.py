"""Models and adapters as GGUF, what llama.cpp and Ollama serve. No torch: numpy and the ``gguf`` package."""

from supervisor.distill.gguf_adapter import check_served, export_adapter
from supervisor.distill.gguf_model import export_model

__all__ = ["check_served", "export_adapter", "export_model"]
