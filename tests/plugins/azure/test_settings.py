"""Which catalogs there are, as the settings say."""

import pytest

from cupola import load_settings
from cupola.catalog import Settings
from cupola.errors import SettingsError
from cupola_plugins.azure import catalog_sources
from cupola_plugins.azure.service import endpoints_of

PRIVATE = {
    "catalog_url": "http://contoso.example/asset-gallery/v1.0/models",
    "registry_url": "http://contoso.example/r",
}
OWN = f"""
[azure]
enabled = true
protocol = "v1"
devices = ["GPU:CUDAExecutionProvider"]

[azure.private.contoso]
catalog_url = "{PRIVATE["catalog_url"]}"
registry_url = "{PRIVATE["registry_url"]}"
deployment_options = ["Contoso on Devices"]
"""


def load(tmp_path, text, **environ):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(path=path, environ=environ)


def test_without_a_word_in_the_settings_there_is_no_catalog_that_could_ask_anybody():
    assert list(catalog_sources(Settings())) == []


def test_private_catalogs_come_before_azures_and_remember_in_files_of_their_own(tmp_path):
    settings = load(tmp_path, OWN, CUPOLA_CACHE_DIR=str(tmp_path))
    private, azure = catalog_sources(settings)
    assert (private.name, azure.name) == ("contoso", "azure")
    assert private._path == tmp_path / "cupola.contoso.modelinfo.json"
    assert azure._path == tmp_path / "foundry.modelinfo.json"


def test_a_private_catalog_is_used_without_azures(tmp_path):
    (source,) = catalog_sources(load(tmp_path, OWN.replace("enabled = true", "")))
    assert source.name == "contoso"


@pytest.mark.parametrize("missing", ["catalog_url", "registry_url"])
def test_a_private_catalog_must_not_fall_back_to_azures_addresses(tmp_path, missing):
    settings = load(tmp_path, OWN.replace(f"{missing} = ", "region = "))
    with pytest.raises(SettingsError, match=r"azure\.private\.contoso.*own catalog_url and registry_url"):
        catalog_sources(settings)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ('[azure]\ndevices = ["cuda"]', "azure.devices"),
        ('[azure]\nprotocol = "v3"', "azure.protocol"),
        ("[azure]\nurl = 1", "azure.url"),
        ('[azure.private."../evil"]\nregion = "x"', "azure.private"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, wrong, key):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, wrong)
    assert key in str(caught.value)


def test_variables_can_say_it_all(tmp_path):
    variables = {
        "CUPOLA_AZURE_ENABLED": "true",
        "CUPOLA_AZURE_CATALOG_URL": "http://x/",
        "CUPOLA_AZURE_REGION": "uksouth",
    }
    azure = load(tmp_path, "", **variables).azure
    assert (azure.enabled, azure.catalog_url, azure.region) == (True, "http://x/", "uksouth")


def test_azures_own_addresses_are_the_default_and_with_a_mirror_azure_is_not_asked_for_the_region():
    azure = endpoints_of(Settings().azure)
    assert azure.catalog == azure.detection == "https://api.catalog.azureml.ms/asset-gallery/v1.0/models"
    assert azure.registry.startswith("https://{region}.api.azureml.ms/modelregistry/v1.0/registry/models/")
    v1 = endpoints_of(load_settings(["azure.protocol=v1"], environ={}).azure)
    assert v1.catalog == "https://ai.azure.com/api/{region}/ux/v1.0"
    mirror = endpoints_of(load_settings(["azure.catalog_url=http://mirror/c/"], environ={}).azure)
    assert (mirror.catalog, mirror.detection) == ("http://mirror/c", "")
