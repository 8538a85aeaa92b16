"""/api/embed and its older sister /api/embeddings."""

import math

import pytest

from tests.contract.ollama.subject import Subject

pytestmark = pytest.mark.anyio


async def test_each_text_gets_a_vector_of_length_one(subject: Subject) -> None:
    found = await subject.client.embed(subject.base, ["one", "another"])

    assert len(found.embeddings) == 2
    assert all(math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-3) for vector in found.embeddings)
    assert found.embeddings[0] != found.embeddings[1]
    assert found.prompt_eval_count


async def test_the_same_text_gets_the_same_vector(subject: Subject) -> None:
    one = await subject.client.embed(subject.base, "hello")
    other = await subject.client.embed(subject.base, "hello")

    assert one.embeddings[0] == pytest.approx(other.embeddings[0], abs=1e-3)


async def test_fewer_dimensions_are_cut_and_stretched_to_length_one(subject: Subject) -> None:
    found = await subject.client.embed(subject.base, "hello", dimensions=8)

    assert len(found.embeddings[0]) == 8
    assert math.isclose(math.hypot(*found.embeddings[0]), 1.0, rel_tol=1e-3)


async def test_nothing_to_embed_loads_the_model_and_gives_an_empty_list(subject: Subject) -> None:
    answer = await subject.post("/api/embed", {"model": subject.base, "input": []})

    assert answer.json()["embeddings"] == []


async def test_what_is_no_text_is_refused(subject: Subject) -> None:
    answer = await subject.post("/api/embed", {"model": subject.base, "input": [1, 2]})

    assert (answer.status_code, answer.json()) == (400, {"error": "invalid input type"})


async def test_the_older_route_takes_one_prompt(subject: Subject) -> None:
    found = await subject.client.embeddings(subject.base, "hello")

    assert len(found.embedding) == 192
