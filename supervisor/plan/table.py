"""The tiers as a table, for the README and for ``clawlama doctor --models``."""

from dataclasses import dataclass

from supervisor.plan.catalog import CATALOG, GB, CatalogModel
from supervisor.plan.memory import GIB, least_for_lesson, lesson
from supervisor.plan.recommend import TIERS, Advice, Tier, expected, recommended, usual_machine


@dataclass(frozen=True)
class TierRow:
    tier: Tier
    model: str
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
        context=f"{held.context // 1024}k" + (", q8_0" if held.kv == "q8_0" else ""),
        lessons=lessons(advice),
        serves_only=advice.server.name if advice.server else "",
    )


def lessons(advice: Advice) -> str:
    if not advice.learns:
        return "no lessons"
    return "serves on" if advice.beside else "rests"


def download(model: CatalogModel) -> str:
    return f"{model.download / GB:.1f} GB" if model.download >= GB else f"{model.download / 10**6:.0f} MB"


def tiers_markdown() -> str:
    lines = ["| machine | model | context | engine in a lesson | serves only |", "|---|---|---|---|---|"]
    for one in tier_rows():
        other = f"`{one.serves_only}`" if one.serves_only else ""
        lines.append(f"| {one.tier.label} | `{one.model}` | {one.context} | {one.lessons} | {other} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class ModelRow:
    name: str
    quantization: str
    download: str
    longest: str  # context
    cache: str  # for 1024 tokens, at f16
    lesson: str  # memory: the least that one can do with, and what it takes given room


def model_rows() -> list[ModelRow]:
    return [
        ModelRow(
            name=model.name,
            quantization=model.quantization,
            download=download(model),
            longest=f"{model.max_context // 1024}k",
            cache=f"{model.kv_per_token * 1024 / 2**20:.0f} MiB",
            lesson="cannot learn" if model.lessons else memory(model),
        )
        for model in CATALOG.values()
    ]


def memory(model: CatalogModel) -> str:
    facts = model.facts()
    return f"{least_for_lesson(facts) / GIB:.0f} to {lesson(facts) / GIB:.0f} GiB"


def models_markdown() -> str:
    lines = ["| model | quantisation | download | longest context | cache per 1k tokens | a lesson takes |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [
        f"| `{one.name}` | {one.quantization} | {one.download} | {one.longest} | {one.cache} | {one.lesson} |"
        for one in model_rows()
    ]
    return "\n".join(lines)


def readme_tables() -> str:
    return f"{tiers_markdown()}\n\n{models_markdown()}"
