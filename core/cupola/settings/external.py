"""Services elsewhere, whose models are offered here."""

from typing import Annotated, Literal

from msgspec import Meta

from cupola.settings.section import Section


class ExternalSettings(Section, frozen=True, kw_only=True):
    """A service elsewhere that speaks OpenAI's API, whose models are offered beside those of this machine.

    Its key is never a setting: it stays in the environment or in a file.

    Attributes:
        base_url: With the "/v1" that most have. Plain http only to this machine, once there is a key.
        models: What the service calls them. Here they are NAME/MODEL, and MODEL where nothing here is called so.
        api_key_env: The environment variable that holds the key.
        api_key_file: The file whose first line is the key.
        connect_timeout_s: A service that takes no connection by then counts as down.
        timeout_s: The longest that it may say nothing, before and within an answer.
        max_tokens_field: What it calls the bound of an answer; OpenAI's newest models know the longer name only.
    """

    base_url: Annotated[str, Meta(pattern=r"^https?://[^\s@?#]+$")]
    models: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    api_key_env: str = ""
    api_key_file: str = ""
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 10.0
    timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
