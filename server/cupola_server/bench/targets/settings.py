"""What a loaded model runs with, in words."""

from cupola.client.api import LoadedModel
from cupola.messages import SessionReport


def settings_of(loaded: SessionReport | LoadedModel) -> dict[str, str]:
    """Say what a loaded model runs with; what is unknown is left out."""
    told = {
        "provider": loaded.provider,
        "session": loaded.kind if isinstance(loaded, SessionReport) else loaded.session,
        "layout": loaded.layout,
        "threads": str(loaded.threads or ""),
        "capacity": str(loaded.capacity),
    }
    return {name: value for name, value in told.items() if value}
