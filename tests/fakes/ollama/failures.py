"""A refusal in Ollama's words: ``{"error": "..."}`` with a status."""

import json


class Refused(Exception):
    """``status`` counts only while nothing has been sent; later the error is one more line of the stream."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad_request(message: str) -> Refused:
    return Refused(400, message)


def unknown_model(given: str) -> Refused:
    return Refused(404, f"model '{given}' not found")


def go_words(error: json.JSONDecodeError) -> str:
    """What Go's decoder says of text that is cut off, or wrong."""
    if error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip()):
        return "unexpected end of JSON input"
    return f"invalid character {error.doc[error.pos]!r} looking for beginning of value"
