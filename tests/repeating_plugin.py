"""The kit's fake provider, as a plugin."""

from cupola import hookimpl
from cupola.testing.fakes import RepeatingProvider


@hookimpl
def execution_providers(settings):
    return [RepeatingProvider()]
