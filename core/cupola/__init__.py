"""Cupola: an open, pluggable local-AI engine.

The public API has one import page for each kind of reader:

* `cupola.engine`: programs that run the engine in their own process
* `cupola.client`: programs that talk to the running service
* `cupola.provider`, `cupola.catalog`, `cupola.cache`, `cupola.frontend`: authors of plugins
* `cupola.events`: plugins that observe
* `cupola.errors`: every error that Cupola raises on purpose
* `cupola.testing`: conformance suites and fakes for the tests of plugins

A plugin is a module with functions marked by `hookimpl`, registered under the entry-point group `cupola`.
"""

from cupola.errors import CupolaError
from cupola.hookspecs import hookimpl
from cupola.settings import Settings, load_settings

__all__ = [
    "CupolaError",
    "Settings",
    "hookimpl",
    "load_settings",
]
