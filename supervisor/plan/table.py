"""The tiers as a table, for the README and for ``clawlama doctor --models``."""

from dataclasses import dataclass

from supervisor.plan.catalog import CATALOG, GB, CatalogModel
from supervisor.plan.memory import GIB, lesson
from supervisor.plan.recommend import TIERS, Advice, Tier, expected, recommended, usual_machine


@dataclass(frozen=True)
class TierRow:
    tier: Tier
    model: str
    download: str
    context: str
    lessons: str
    serves_only: str  # a larger model that cannot learn, or nothing


def tier_rows() -> list[TierRow]:
    return [row(tier) for tier in TIERS]


def row(tier: Tier) -> TierRow:
    machine = usual_machine(tier)
    advice = recommended(machine)
    held = expected(machine, advice.model)
    return TierRow(
        tier=tier,
        model=advice.model.name,
        download=download(advice.model),
        context=f"{held.context // 1024}k" + (", q8_0" if held.kv == "q8_0" else ""),
        lessons=lessons(advice),
        serves_only=advice.server.name if advice.server else "",
    )


def lessons(advice: Advice) -> str:
    if not advice.learns:
        return "memory too small"
    return "while it serves" if advice.beside else "while it rests"


def download(model: CatalogModel) -> str:
    return f"{model.download / GB:.1f} GB" if model.download >= GB else f"{model.download / 10**6:.0f} MB"


def tiers_markdown() -> str:
    lines = [
        "| machine | model | download | context | lessons | or, serving only |",
        "|---|---|---|---|---|---|",
    ]
    for one in tier_rows():
        other = f"`{one.serves_only}`" if one.serves_only else ""
        lines.append(f"| {one.tier.label} | `{one.model}` | {one.download} | {one.context} | {one.lessons} | {other} |")
    return "\n".join(lines)


def models_markdown() -> str:
    """Every model of the catalog: what it is and what it needs."""
    lines = ["| model | quantisation | download | longest context | cache per 1k tokens | a lesson needs |"]
    lines.append("|---|---|---|---|---|---|")
    for model in CATALOG.values():
        needs = "cannot learn" if model.lessons else f"{lesson(model.facts()) / GIB:.0f} GiB"
        lines.append(
            f"| `{model.name}` | {model.quantization} | {download(model)} | {model.max_context // 1024}k "
            f"| {model.kv_per_token * 1024 / 2**20:.0f} MiB | {needs} |"
        )
    return "\n".join(lines)
