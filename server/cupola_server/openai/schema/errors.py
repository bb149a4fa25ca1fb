"""The error object."""

from msgspec import Struct


class ErrorObject(Struct):
    """OpenAI's error object: a sentence, its kind, the field it is about, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """The body of every reply that is not a success."""

    error: ErrorObject
