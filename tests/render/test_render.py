import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import RenderError
from supervisor.render.render import GatewayConfig, Lean, ModelEntry, Telegram, openclaw_json, workspace_files
from supervisor.render.templates import fill

MODEL = ModelEntry("openclaw/assistant", "tiny", context_window=8192, max_tokens=512, alias="assistant")
CONFIG = GatewayConfig(
    port=18789,
    provider_url="http://127.0.0.1:8080/v1",
    api_url="http://127.0.0.1:8080",
    adapter="openclaw/assistant",
    models=(MODEL,),
    workspace=Path("/data/workspace"),
    plugin=Path("/plugin"),
    log_file=Path("/data/logs/openclaw.log"),
)


def rendered(config: GatewayConfig) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(openclaw_json(config))
    return parsed


def test_tools_are_full_but_never_elevated_and_patches_stay_in_the_workspace() -> None:
    tools = rendered(CONFIG)["tools"]

    assert tools["profile"] == "full"
    assert tools["elevated"] == {"enabled": False}
    assert tools["exec"]["applyPatch"] == {"enabled": True, "workspaceOnly": True}


def test_nothing_but_a_person_starts_a_turn() -> None:
    config = rendered(CONFIG)

    assert config["agents"]["defaults"]["heartbeat"] == {"every": "0m"}
    assert config["memory"]["search"] == {"enabled": False}
    assert config["plugins"]["slots"] == {"memory": "none"}


def test_secrets_are_names_of_variables() -> None:
    config = rendered(replace(CONFIG, telegram=Telegram()))

    assert config["gateway"]["auth"]["token"] == "${OPENCLAW_GATEWAY_TOKEN}"
    assert config["models"]["providers"]["clawlama"]["apiKey"] == "${CLAWLAMA_API_TOKEN}"
    assert config["channels"]["telegram"]["botToken"] == "${TELEGRAM_BOT_TOKEN}"


def test_the_first_model_is_the_one_in_use_and_its_id_may_hold_slashes() -> None:
    config = rendered(replace(CONFIG, models=(MODEL, replace(MODEL, id="tiny", alias="plain"))))

    defaults = config["agents"]["defaults"]
    assert defaults["model"]["primary"] == "clawlama/openclaw/assistant"
    assert list(defaults["models"]) == ["clawlama/openclaw/assistant", "clawlama/tiny"]


@pytest.mark.parametrize(
    "nasty", ['a "quoted" name', "{{ braces }}", "back\\slash", "<script>&'", "two\nlines", "Größe 🦞"]
)
def test_any_text_arrives_as_it_was(nasty: str) -> None:
    config = rendered(replace(CONFIG, adapter=nasty, workspace=Path(f"/data/{nasty}")))

    assert config["plugins"]["entries"]["clawlama"]["config"]["adapter"] == nasty
    assert config["agents"]["defaults"]["workspace"] == f"/data/{nasty}"


def test_the_prompt_is_replaced_only_when_lean() -> None:
    lean = rendered(replace(CONFIG, lean=Lean("Be short.", ("read",))))

    assert "lean" not in rendered(CONFIG)["plugins"]["entries"]["clawlama"]["config"]
    wanted = {"systemPrompt": "Be short.", "toolsAllow": ["read"]}
    assert lean["plugins"]["entries"]["clawlama"]["config"]["lean"] == wanted


def test_telegram_is_off_without_a_token() -> None:
    config = rendered(CONFIG)

    assert "channels" not in config
    assert config["plugins"]["allow"] == ["clawlama"]


@pytest.mark.parametrize(("people", "policy"), [((), "pairing"), ((777,), "allowlist")])
def test_telegram_answers_only_people_who_are_known(people: tuple[int, ...], policy: str) -> None:
    telegram = rendered(replace(CONFIG, telegram=Telegram(people)))["channels"]["telegram"]

    assert telegram["dmPolicy"] == policy
    assert telegram.get("allowFrom", []) == list(people)
    assert telegram["groupPolicy"] == "disabled"


def test_the_control_ui_opens_from_this_machine_and_from_named_addresses() -> None:
    config = rendered(replace(CONFIG, port=4000, more_origins=("http://nas:4000",)))

    origins = config["gateway"]["controlUi"]["allowedOrigins"]
    assert origins == ["http://localhost:4000", "http://127.0.0.1:4000", "http://nas:4000"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"models": ()}, "at least one model"),
        ({"port": 0}, "port 0"),
        ({"models": (replace(MODEL, id=" tiny"),)}, "' tiny'"),
        ({"models": (replace(MODEL, context_window=2048),)}, "CLAWLAMA_CONTEXT_WINDOW"),
        ({"models": (replace(MODEL, max_tokens=9000),)}, "CLAWLAMA_MAX_TOKENS"),
    ],
)
def test_values_that_openclaw_would_choke_on_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(RenderError, match=named):
        openclaw_json(replace(CONFIG, **change))


def test_a_name_that_the_template_uses_and_nobody_gave_is_an_error() -> None:
    with pytest.raises(RenderError, match=r"config/openclaw\.json\.j2"):
        fill("config/openclaw.json.j2", {})


def test_a_template_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RenderError, match=r"config/nope\.j2"):
        fill("config/nope.j2", {})


@pytest.mark.parametrize("rule", ["git commit", "git push", "git reset --hard", "/etc"])
def test_both_workspace_files_carry_the_rules(rule: str) -> None:
    files = workspace_files()

    assert rule in files["AGENTS.md"]
    assert rule in files["TOOLS.md"]
