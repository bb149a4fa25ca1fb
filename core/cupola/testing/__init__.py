"""The plugin author's kit: conformance suites, fakes, and an engine with the plugins under test.

The suites are pytest classes: subclass one, override its fixture, run pytest. The only part of the core that imports
pytest; nothing of the engine imports it.
"""

import pytest

pytest.register_assert_rewrite(
    "cupola.testing.caches",
    "cupola.testing.catalogs",
    "cupola.testing.frontends",
    "cupola.testing.providers",
    "cupola.testing.sessions",
)

from cupola.testing.caches import CacheStoreSuite  # noqa: E402 - asserts are rewritten on import
from cupola.testing.catalogs import CatalogSourceSuite  # noqa: E402
from cupola.testing.fakes import FakeEngine, PlainFrontend, RepeatingProvider, RepeatingSession, Shelf  # noqa: E402
from cupola.testing.frontends import ApiFrontendSuite, Ask  # noqa: E402
from cupola.testing.opening import engine_with  # noqa: E402
from cupola.testing.providers import ExecutionProviderSuite  # noqa: E402
from cupola.testing.sessions import SessionSuite  # noqa: E402

__all__ = [
    "ApiFrontendSuite",
    "Ask",
    "CacheStoreSuite",
    "CatalogSourceSuite",
    "ExecutionProviderSuite",
    "FakeEngine",
    "PlainFrontend",
    "RepeatingProvider",
    "RepeatingSession",
    "SessionSuite",
    "Shelf",
    "engine_with",
]
