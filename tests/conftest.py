"""What every test may use."""

from pathlib import Path

import anyio
import platformdirs
import pytest

from cupola import Settings
from cupola.engine import open_engine
from cupola.settings import CacheSettings

SHARED_CACHE = Path(platformdirs.user_cache_dir("cupola-tests", appauthor=False)) / "models"


@pytest.fixture
def anyio_backend():
    """Run async tests on asyncio; modules of the core that run on trio as well say so themselves."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def machine_without_a_past(tmp_path_factory):
    """Keep what is installed for this machine and known of it out of the tests, and theirs out of it."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        patch.setenv("CUPOLA_MACHINE_DIR", str(folder / "machine"))
        yield


@pytest.fixture(scope="session")
def starter_settings():
    """Settings whose cache holds the starter model. Downloaded once per machine; without it tests fail, not skip."""
    settings = Settings(cache=CacheSettings(dir=str(SHARED_CACHE)))
    anyio.run(_download, settings)
    return settings


@pytest.fixture(scope="session")
def starter_model_path(starter_settings):
    """Folder of the starter model."""
    return anyio.run(_download, starter_settings)


@pytest.fixture(scope="session")
def starter_embedder(starter_settings):
    """Alias of the starter embedding model, which is in the same cache."""
    anyio.run(_download, starter_settings, "all-minilm-l6-v2")
    return "all-minilm-l6-v2"


async def _download(settings, model="smollm2-135m"):
    async with open_engine(settings) as engine:
        return (await engine.download(model)).path
