"""No secret reaches a log. Everything that looks like one here was made up."""

import base64
from collections.abc import Sequence

import pytest

from supervisor.redact import SHOWN, redactor
from supervisor.services.output import LONGEST_LINE, Output

TOKEN = "Zk3/q+VvX0y-7aN_u5wRtE9sL2mPhCdB"
TELEGRAM = "1234567890:AAHk3jZ0uVbX7yQw9Lr2TnM5pS8dEfGh1Jk"


def through(*blocks: bytes, secrets: Sequence[str] = (TOKEN,)) -> list[str]:
    """What an Output keeps of these blocks."""
    output = Output("x", redact=redactor(secrets))
    for block in blocks:
        output.feed(block)
    output.finish()
    return list(output.tail)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (f"starting with {TOKEN} now", "starting with [secret] now"),
        ("GET /?t=Zk3%2Fq%2BVvX0y-7aN_u5wRtE9sL2mPhCdB", "GET /?t=[secret]"),
        (f"hex {TOKEN.encode().hex()}.", "hex [secret]."),
        (f"b64 {base64.b64encode(TOKEN.encode()).decode()}", "b64 [secret]"),
    ],
)
def test_a_secret_that_we_know_is_taken_out_in_every_spelling(printed: str, shown: str) -> None:
    assert redactor([TOKEN])(printed).rstrip("=") == shown


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (f"GET https://api.telegram.org/bot{TELEGRAM}/me", f"GET https://api.telegram.org/bot1234567890:{SHOWN}/me"),
        ("authorization: Bearer abcdef0123456789", f"authorization: {SHOWN}"),
        ('{"Authorization":"Basic dXNlcjpwYXNz"}', f'{{"Authorization":"{SHOWN}"}}'),
        ("sent Bearer abcdef0123456789, got 401", f"sent Bearer {SHOWN}, got 401"),
        ("proxy http://me:pass@proxy:3128/ refused", f"proxy http://{SHOWN}@proxy:3128/ refused"),
        ("open http://127.0.0.1:18789/#token=abcdefghijklmnop1234", f"open http://127.0.0.1:18789/#token={SHOWN}"),
        ('{\\"apiKey\\":\\"abcdef0123456789\\"}', f'{{\\"apiKey\\":\\"{SHOWN}\\"}}'),
        ("OPENAI_API_KEY=abcdef0123456789", f"OPENAI_API_KEY={SHOWN}"),
        ("password: hunter22", f"password: {SHOWN}"),
        ("using hf_abcdefghijklmnopqrstuvwx", f"using {SHOWN}"),
        ("key sk-proj-abcdefghijklmnopqrstuvwx", f"key {SHOWN}"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_taken_out(printed: str, shown: str) -> None:
    assert redactor([])(printed) == shown


@pytest.mark.parametrize(
    "line",
    [
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "srv load_model: eos token: 151645 '<|im_end|>', n_tokens = 512",
        "2026-11-20T12:00:00.123Z POST http://127.0.0.1:11434/api/chat 200",
        "basic authentication is off; the secret is out",
        "mail me@example.org about 192.168.1.10:8080",
    ],
)
def test_an_ordinary_line_stays_as_it_is(line: str) -> None:
    assert redactor([TOKEN])(line) == line


def test_a_word_is_not_taken_for_a_secret_because_it_was_chosen_as_one() -> None:
    assert redactor(["short"])("a short word") == "a short word"


@pytest.mark.parametrize("secret", [TOKEN, TELEGRAM])
@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_secret_across_two_reads_is_seen_whole(secret: str, cut: int) -> None:
    line = f"token {secret} end\n".encode()

    (shown,) = through(line[:cut], line[cut:])

    assert secret not in shown
    assert secret[-12:] not in shown
    assert shown.endswith(" end")


def test_a_secret_that_is_painted_is_a_secret_all_the_same() -> None:
    painted = "\x1b[31m" + TOKEN[:10] + "\x1b[0m" + TOKEN[10:]

    assert through(f"token {painted}\n".encode()) == ["token [secret]"]


@pytest.mark.parametrize("before", range(LONGEST_LINE - 40, LONGEST_LINE + 8, 8))
@pytest.mark.parametrize("filling", ["x", "é", "😊"])
def test_a_secret_where_a_long_line_is_cut_is_not_shown_in_part(filling: str, before: int) -> None:
    line = (filling * before + TOKEN + filling * 40_000).encode()

    shown = through(*[line[at : at + 65536] for at in range(0, len(line), 65536)])

    assert TOKEN[:4] not in "".join(shown)


def test_line_breaks_are_kept() -> None:
    assert through(f"a {TOKEN}\n\nb\n".encode()) == ["a [secret]", "", "b"]
