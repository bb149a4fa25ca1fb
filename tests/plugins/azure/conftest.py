"""Catalogs that ask the stand-in, without the pauses that are for real networks."""

import pytest

from cupola_plugins.azure import AzureFoundryCatalog


@pytest.fixture
def snapshot(tmp_path):
    return tmp_path / "cache" / "foundry.modelinfo.json"


@pytest.fixture
def catalog_of(snapshot):
    """A new source, as a new process would have it; they share the snapshot."""

    def make(azure, protocol="v2", *, endpoints=None, path=snapshot, **settings):
        source_settings = azure.settings(protocol, **{"timeout_s": 5.0, **settings})
        return AzureFoundryCatalog(source_settings, path, endpoints=endpoints, first_pause_s=0.01)

    return make
