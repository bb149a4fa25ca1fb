"""Tools for testing plugins: conformance suites, fakes, and an engine with the plugins under test.

The suites are pytest classes: subclass one, override its fixture, and run pytest. Only this package imports pytest.
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
from cupola.testing.engine import engine_with  # noqa: E402
from cupola.testing.fakes import FakeEngine, PlainFrontend, RepeatingProvider, RepeatingSession, Shelf  # noqa: E402
from cupola.testing.frontends import ApiFrontendSuite, HttpRequest  # noqa: E402
from cupola.testing.providers import ExecutionProviderSuite  # noqa: E402
from cupola.testing.sessions import SessionSuite  # noqa: E402

__all__ = [
    "ApiFrontendSuite",
    "CacheStoreSuite",
    "CatalogSourceSuite",
    "ExecutionProviderSuite",
    "FakeEngine",
    "HttpRequest",
    "PlainFrontend",
    "RepeatingProvider",
    "RepeatingSession",
    "SessionSuite",
    "Shelf",
    "engine_with",
]
