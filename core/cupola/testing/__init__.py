"""Conformance suites for plugin authors, as pytest classes: subclass one, override its one fixture, run pytest.

The only part of the core that imports pytest; nothing of the engine imports it.
"""

import pytest

pytest.register_assert_rewrite("cupola.testing.caches", "cupola.testing.catalogs", "cupola.testing.sessions")

from cupola.testing.caches import CacheStoreSuite  # noqa: E402 - asserts are rewritten on import
from cupola.testing.catalogs import CatalogSourceSuite  # noqa: E402
from cupola.testing.sessions import SessionSuite  # noqa: E402

__all__ = ["CacheStoreSuite", "CatalogSourceSuite", "SessionSuite"]
