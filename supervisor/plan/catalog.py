"""Models of Ollama's library that we recommend: data, and what follows from it by arithmetic.

Downloads are the sizes that ollama.com/library states, rounded there to two digits; shapes are those of the makers'
``config.json``. Neither is measured by us. Nothing here is needed to *run* a model: any name that Ollama knows will do.

Why these: OpenClaw needs tool calls, which rules Gemma 3 out (its Ollama template has none); lessons need a dense model
of an architecture that can be read back from its GGUF, which rules out mixtures of experts, however well they serve.
"""

from dataclasses import dataclass
from pathlib import Path

from supervisor.plan.models import BaseModelFacts

GB = 10**9
NOT_HERE = Path()  # of a model that nobody pulled yet: it can be planned for, not run


@dataclass(frozen=True)
class CatalogModel:
    name: str  # as Ollama calls it
    parameters: int  # in the file: the small ones hold their embeddings twice
    quantization: str
    download: int  # bytes; also what the weights take in memory
    layers: int
    cached_layers: int  # those that keep every token; layers with a sliding window keep a few hundred
    kv_heads: int
    head_size: int
    max_context: int  # tokens
    lessons: str | None = None  # why it cannot be taught

    @property
    def kv_per_token(self) -> int:
        """Bytes of key-value cache per token at f16."""
        return 2 * 2 * self.cached_layers * self.kv_heads * self.head_size

    def facts(self) -> BaseModelFacts:
        """For planning before it is pulled."""
        return BaseModelFacts(
            name=self.name,
            trains_on=NOT_HERE,
            gguf=NOT_HERE,
            weights=self.download,
            max_context=self.max_context,
            kv_per_token=self.kv_per_token,
            parameters=self.parameters,
            layers=self.layers,
            lessons=self.lessons,
        )


EXPERTS = "a mixture of experts; it serves, lessons need a dense model"

# Smallest first: the recommendation is the last that fits.
LEARNERS = (
    CatalogModel("qwen3:0.6b", 752_000_000, "Q4_K_M", 523_000_000, 28, 28, 8, 128, 40960),
    CatalogModel("qwen3:1.7b", 2_030_000_000, "Q4_K_M", 1_400_000_000, 28, 28, 8, 128, 40960),
    CatalogModel("qwen3:4b-instruct", 4_020_000_000, "Q4_K_M", 2_500_000_000, 36, 36, 8, 128, 262144),
    CatalogModel("qwen3:8b", 8_190_000_000, "Q4_K_M", 5_200_000_000, 36, 36, 8, 128, 40960),
    CatalogModel("qwen3:14b", 14_800_000_000, "Q4_K_M", 9_300_000_000, 40, 40, 8, 128, 40960),
    CatalogModel("qwen3:32b", 32_800_000_000, "Q4_K_M", 20_000_000_000, 64, 64, 8, 128, 40960),
)

SERVERS = (
    CatalogModel("gpt-oss:20b", 20_900_000_000, "MXFP4", 14_000_000_000, 24, 12, 8, 64, 131072, EXPERTS),
    CatalogModel("gpt-oss:120b", 116_800_000_000, "MXFP4", 65_000_000_000, 36, 18, 8, 64, 131072, EXPERTS),
)

CATALOG = {model.name: model for model in (*LEARNERS, *SERVERS)}
