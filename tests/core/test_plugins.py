from importlib.metadata import EntryPoint

import pytest

from cupola import hookimpl
from cupola.catalog import CatalogSource
from cupola.contracts import Device, ModelLoaded
from cupola.errors import PluginConflictError, PluginsFailedError, SettingsError
from cupola.frontend import ModelInfo
from cupola.plugins import PluginSet
from cupola.provider import Placement
from cupola.settings import PluginSettings, Settings


class Source(CatalogSource):
    name = "mine"

    async def models(self):
        return []

    async def files(self, model):
        return []


class Good:
    @hookimpl
    def catalog_sources(self, settings):
        return [Source()]


class SameName(Good):
    pass


class Misspelt:
    @hookimpl
    def catalog_source(self, settings):
        return []


class Asynchronous:
    @hookimpl
    async def catalog_sources(self, settings):
        return []


class Raising:
    @hookimpl
    def catalog_sources(self, settings):
        raise RuntimeError("no")

    @hookimpl
    def place_model(self, model):
        raise RuntimeError("no")

    @hookimpl
    def observe(self, event):
        raise RuntimeError("no")


class WrongType:
    @hookimpl
    def catalog_sources(self, settings):
        return ["a string"]


class NotIterable:
    @hookimpl
    def catalog_sources(self, settings):
        return Source()


class Placing:
    seen = []

    @hookimpl
    def place_model(self, variants, devices):
        return Placement(variants[0], devices[0])

    @hookimpl
    def observe(self, event):
        self.seen.append(event)


good, same, misspelt, asynchronous, raising, wrong, lone, placing = (
    Good(), SameName(), Misspelt(), Asynchronous(), Raising(), WrongType(), NotIterable(), Placing()
)  # fmt: skip
MODEL = ModelInfo(id="a:1", alias="a", source="mine", publisher="me")


def plugins(*names, settings=None):
    entries = [EntryPoint(name, f"{__name__}:{name}", "cupola") for name in names]
    return PluginSet(settings or Settings(), entries)


def test_a_plugin_contributes_under_its_name():
    found = plugins("good")
    assert [source.name for source in found.catalog_sources] == ["mine"]
    assert found.records[0].contributes == {"catalog source": ("mine",)}
    found.ensure_usable(strict=True)


@pytest.mark.parametrize(
    ("name", "stage", "reason"),
    [
        ("misspelt", "register", "catalog_source"),
        ("asynchronous", "catalog_sources", "synchronous"),
        ("raising", "catalog_sources", "RuntimeError: no"),
        ("wrong", "catalog_sources", "expected CatalogSource"),
        ("lone", "catalog_sources", "expected an iterable"),
        ("absent", "import", "AttributeError"),
    ],
)
def test_a_plugin_that_fails_is_listed_with_its_reason_and_costs_only_itself(name, stage, reason):
    found = plugins(name, "good")
    (failure,) = found.failures
    assert (failure.plugin, failure.stage) == (name, stage)
    assert reason in failure.error
    assert [source.name for source in found.catalog_sources] == ["mine"]
    found.ensure_usable()
    with pytest.raises(PluginsFailedError, match=name):
        found.ensure_usable(strict=True)


def test_a_plugin_whose_module_cannot_be_imported_costs_only_itself():
    found = PluginSet(Settings(), [EntryPoint("gone", "no_such_module", "cupola")])
    assert "ModuleNotFoundError" in found.failures[0].error


def test_a_name_contributed_twice_is_an_error_that_names_both():
    found = plugins("good", "same")
    with pytest.raises(PluginConflictError, match=r"'mine': good .* and same"):
        found.ensure_usable()


def test_two_plugins_with_one_name_are_an_error():
    found = plugins("good", "good")
    with pytest.raises(PluginConflictError, match="plugin 'good'"):
        found.ensure_usable()


def test_a_disabled_plugin_is_left_out():
    settings = Settings(plugins=PluginSettings(disabled=("good",)))
    assert plugins("good", settings=settings).records == ()


def test_placement_asks_the_next_plugin_when_one_fails():
    device = Device("CPUExecutionProvider", "CPU")
    assert plugins("placing", "raising").place("a", [MODEL], [device]) == Placement(MODEL, device)
    assert plugins("raising").place("a", [MODEL], [device]) is None


def test_every_observer_is_told_though_one_fails():
    event = ModelLoaded("a:1", "CPUExecutionProvider", 1.0)
    plugins("placing", "raising").observe(event)
    assert Placing.seen == [event]


def test_a_providers_options_are_checked_at_start():
    entry = EntryPoint("echo", "echo_plugin", "cupola")
    found = PluginSet(Settings(providers={"echo": {"capacity": "many"}}), [entry])
    with pytest.raises(SettingsError, match=r"providers\.echo\.capacity"):
        found.ensure_usable()
    found = PluginSet(Settings(providers={"eco": {}}), [entry])
    with pytest.raises(SettingsError, match="unknown provider; available: echo"):
        found.ensure_usable()
