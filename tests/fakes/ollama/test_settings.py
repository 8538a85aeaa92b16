import pytest

from tests.fakes.ollama.names import InvalidName, parse
from tests.fakes.ollama.settings import FOREVER, duration, lenient_keep_alive, read


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("", "127.0.0.1", 11434),
        ("0.0.0.0", "0.0.0.0", 11434),
        ("example.local:8080", "example.local", 8080),
        (":8080", "127.0.0.1", 8080),
        ("http://10.0.0.1:8080", "10.0.0.1", 8080),
        ("http://10.0.0.1", "10.0.0.1", 80),
        ("https://10.0.0.1", "10.0.0.1", 443),
        ("[::1]:8080", "::1", 8080),
    ],
)
def test_the_address_is_read_as_ollama_reads_it(given: str, host: str, port: int) -> None:
    found = read({"OLLAMA_HOST": given})

    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("0", 0)])
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5", "5x", "m"])
def test_what_is_no_duration_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        duration(text)


@pytest.mark.parametrize(("text", "seconds"), [("", 300), ("junk", 300), ("60", 60), ("-1", FOREVER), ("2h", 7200)])
def test_the_keep_alive_of_the_environment_forgives(text: str, seconds: float) -> None:
    assert lenient_keep_alive(text) == seconds


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("tiny", "registry.ollama.ai/library/tiny:latest"),
        ("me/tiny:v1", "registry.ollama.ai/me/tiny:v1"),
        ("hf.co/me/tiny:Q4", "hf.co/me/tiny:Q4"),
        ("10.0.0.1:5000/me/tiny", "10.0.0.1:5000/me/tiny:latest"),
        ("https://ollama.com/library/tiny", "registry.ollama.ai/library/tiny:latest"),
    ],
)
def test_a_name_is_filled_up(text: str, full: str) -> None:
    assert parse(text).full == full


@pytest.mark.parametrize("text", ["", "a/b/c/d", "tiny:", "-tiny", "a b", "me./tiny", "x" * 81])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse(text)


@pytest.mark.parametrize("text", ["tiny:latest", "me/tiny:v1", "hf.co/me/tiny:Q4"])
def test_the_shortest_name_leads_back_to_the_same(text: str) -> None:
    assert parse(text).shortest == text
