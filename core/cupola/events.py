"""The import page of observers: the events that an `observe` hook receives."""

from cupola.contracts import DownloadEnded, Event, ModelLoaded, ModelUnloaded, RequestEnded, RequestStarted, TurnEnded
from cupola.hookspecs import hookimpl
from cupola.messages import FinishReason, Usage
from cupola.settings import Settings

__all__ = [
    "DownloadEnded",
    "Event",
    "FinishReason",
    "ModelLoaded",
    "ModelUnloaded",
    "RequestEnded",
    "RequestStarted",
    "Settings",
    "TurnEnded",
    "Usage",
    "hookimpl",
]
