"""Who gets in, and what a bad request is told."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from supervisor.api.status import StackStatus
from supervisor.gateway.bookkeeping import PROMPT_HEADER
from tests.api.stage import ADAPTER, CHAT, HELLO, TOKEN, client_of, in_process, over_http
from tests.journal.samples import completion, taught

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/health", "/healthz"])
async def test_what_says_only_that_we_are_here_needs_no_token(tmp_path: Path, path: str) -> None:
    async with in_process(tmp_path) as stage:
        assert (await stage.client.get(path, headers={"Authorization": ""})).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"Authorization": ""}},
        {"headers": {"Authorization": "Bearer wrong"}},
        {"headers": {"Authorization": "Bearer ünïcode".encode("latin-1")}},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"headers": {"Authorization": ""}, "params": {"token": "wrong"}},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/health", "/openapi.json", "/nowhere"])
async def test_all_else_needs_the_token_and_says_where_it_is(tmp_path: Path, path: str, given: dict[str, Any]) -> None:
    async with in_process(tmp_path) as stage:
        reply = await stage.client.get(path, **given)

    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert "data folder" in reply.json()["error"]["message"]
    assert TOKEN not in reply.text


async def test_a_page_may_carry_the_token_in_its_address_but_an_action_may_not(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        page = await stage.client.get("/v1/models", params={"token": TOKEN}, headers={"Authorization": ""})
        action = await stage.client.post(CHAT, params={"token": TOKEN}, headers={"Authorization": ""}, json=HELLO)

    assert (page.status_code, action.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"{", 400, "is not JSON"),
        (b"[1]", 400, "must be a JSON object, not list"),
        (b'{"model": "x"}', 400, '"messages"'),
        (b'{"messages": []}', 400, '"messages"'),
        (b'{"messages": ["hi"]}', 400, "messages[0]"),
        (b'{"messages": [{"role": "user"}], "temperature": NaN}', 400, "NaN is not a JSON number"),
        (b"[" * 100_000, 400, "is not JSON"),
        (b"\xff\xfe\x00", 400, "is not JSON"),
        (b'{"messages": [{"role": "user"}], "clawlama": {"x": 1}}', 400, "strip_thinking"),
        (b'{"messages": [{"role": "user"}], "model": "gpt-9"}', 404, "use one of: openclaw/assistant"),
        (b"x" * (64 * 2**20 + 1), 413, "64 MiB"),
    ],
)
async def test_a_bad_chat_request_is_told_what_is_wrong(
    tmp_path: Path, content: bytes, status: int, message: str
) -> None:
    async with over_http(tmp_path) as stage:
        reply = await stage.client.post(CHAT, content=content)
        again = await stage.client.post(CHAT, json=HELLO)

    assert (reply.status_code, message in reply.json()["error"]["message"]) == (status, True), reply.text
    assert stage.asked == [HELLO]
    assert again.status_code == 200


async def test_a_request_that_names_no_model_gets_the_assistant(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        await stage.client.post(CHAT, json={"messages": HELLO["messages"]})

    assert stage.asked[0]["model"] == ADAPTER


async def test_an_unforeseen_error_is_a_500_without_our_inner_life(tmp_path: Path) -> None:
    def broken() -> StackStatus:
        raise ZeroDivisionError("secret detail")

    async with in_process(tmp_path, status=broken) as stage:
        reply = await stage.client.get("/health")

    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert "log" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", CHAT, 405)])
async def test_errors_of_the_framework_have_our_shape(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with in_process(tmp_path) as stage:
        reply = await stage.client.request(method, path)

    assert reply.status_code == status
    assert reply.json()["error"]["code"] == status


async def test_models_are_listed_as_openai_does(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        listed = (await stage.client.get("/v1/models")).json()
        one = await stage.client.get(f"/v1/models/{ADAPTER}-latest")
        none = await stage.client.get("/v1/models/gpt-9")

    assert [model["id"] for model in listed["data"]] == [ADAPTER, f"{ADAPTER}-latest", "tiny-chat"]
    assert [model["version"] for model in listed["data"]] == ["v0002", "v0002", None]
    assert (one.status_code, none.status_code) == (200, 404)


async def test_a_reply_is_scored_token_by_token(tmp_path: Path) -> None:
    body = {"model": ADAPTER, "messages": HELLO["messages"], "completion": "Hi you there"}

    async with in_process(tmp_path) as stage:
        answer = (await stage.client.post("/v1/score", json=body)).json()
        empty = await stage.client.post("/v1/score", json=body | {"completion": ""})

    assert answer["tokens"] == ["Hi", "you", "there"]
    assert answer["logprobs"] == [-0.5] * 3
    assert (answer["prompt_tokens"], answer["completion_tokens"], answer["logprob_sum"]) == (1, 3, -1.5)
    assert empty.status_code == 422


async def test_health_tells_the_phase_the_version_and_what_waits(tmp_path: Path) -> None:
    async with in_process(tmp_path, status=lambda: StackStatus("starting", "the engine loads")) as stage:
        await taught(stage.journal, gather=True)
        answer = (await stage.client.get("/v1/health")).json()

    assert answer["status"] == "degraded"
    assert answer["worker"] == {"status": "degraded", "error": "the engine loads"}
    assert (answer["phase"], answer["model"], answer["version"]) == ("starting", "tiny-chat", "v0002")
    assert answer["lessons"] == {"gathering": 1, "queued": 0, "running": None}


async def test_recorded_replies_can_be_listed_and_read(tmp_path: Path) -> None:
    given = [completion("one"), completion("two")]

    async with in_process(tmp_path) as stage:
        for one in given:
            await stage.journal.add_completion(one)
        listed = (await stage.client.get("/v1/journal/completions", params={"limit": 1})).json()["completions"]
        older = (await stage.client.get("/v1/journal/completions", params={"before": listed[0]["id"]})).json()
        read = (await stage.client.get(f"/v1/journal/completions/{given[0].id}")).json()
        missing = await stage.client.get("/v1/journal/completions/cmpl-gone")

    assert [one["id"] for one in listed] == [given[1].id]
    assert [one["id"] for one in older["completions"]] == [given[0].id]
    assert read["reply"]["content"] == "one"
    assert missing.status_code == 404


async def test_the_api_describes_itself(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        info = (await stage.client.get("/")).json()
        described = (await stage.client.get(info["docs"])).json()

    assert (info["name"], info["version"]) == ("clawlama", "1.2.3")
    assert "/v1/feedback" in described["paths"]


async def test_json_may_come_without_its_content_type(tmp_path: Path) -> None:
    content = f'{{"lora_id": "{ADAPTER}", "prompt": "a", "response": "b", "feedback": "c", "wait": false}}'

    async with in_process(tmp_path) as stage:
        reply = await stage.client.post("/v1/feedback", content=content)

    assert reply.status_code == 202


async def test_an_engine_that_cannot_score_is_a_503(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        stage.engine.scores = False
        reply = await stage.client.post("/v1/score", json={"messages": HELLO["messages"], "completion": "x"})

    assert reply.status_code == 503


async def test_a_client_without_keepalive_is_served(tmp_path: Path) -> None:
    async with over_http(tmp_path) as stage, client_of(stage.url, httpx.AsyncHTTPTransport(retries=0)) as client:
        reply = await client.get("/v1/models", headers={"Connection": "close"})

    assert reply.status_code == 200


async def test_what_openclaw_writes_for_itself_reaches_neither_the_model_nor_the_journal(tmp_path: Path) -> None:
    stamped = "[Fri 2026-11-20 08:25 UTC] Hi"
    body = {"messages": [{"role": "user", "content": stamped}]}
    async with in_process(tmp_path) as stage:
        await stage.client.post(CHAT, json=body, headers={PROMPT_HEADER: "lean"})
        await stage.client.post(CHAT, json=body)

        recorded = await stage.journal.completions(2)

    assert [one.messages[0]["content"] for one in recorded] == [stamped, "Hi"]
