"""Keys, which go to their own service and nowhere else, and services that are registered while it runs."""

import logging

import pytest

from core.external.exchanges import events_of
from cupola.errors import ExternalServiceError, RequestError, SettingsError
from cupola.external.service import ExternalService
from cupola.settings import ExternalSettings, load_settings
from openai_stand_in import KEY

pytestmark = pytest.mark.anyio


async def test_the_key_is_in_no_log_and_no_repr(opened, service, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    async with opened() as engine:
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        await events_of(engine)
        service.refuse(401, KEY)
        with pytest.raises(ExternalServiceError) as caught:
            await events_of(engine)
        assert KEY not in repr(engine._settings)
    assert service.asked[0][1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text
    assert KEY not in repr(caught.value)


async def test_a_key_may_lie_in_a_file_and_is_read_anew_for_each_request(opened, service, tmp_path):
    file = tmp_path / "key"
    async with opened(api_key_env="", api_key_file=str(file)) as engine:
        for key in ("first", "second"):
            file.write_text(f"{key}\n")
            await events_of(engine)
            assert service.asked[-1][1]["authorization"] == f"Bearer {key}"
        file.unlink()
        with pytest.raises(ExternalServiceError, match="key file"):
            await events_of(engine)


async def test_a_key_that_is_missing_is_told_by_the_name_of_its_variable(opened, monkeypatch):
    monkeypatch.delenv("CLOUD_KEY")
    async with opened() as engine:
        with pytest.raises(ExternalServiceError, match="variable CLOUD_KEY, which should hold its key, is not set"):
            await events_of(engine)


def test_a_key_does_not_travel_in_the_clear():
    with pytest.raises(SettingsError, match="external.x.base_url"):
        ExternalService("x", ExternalSettings(base_url="http://api.example/v1", api_key_env="K"), {})
    for url in ("http://localhost:1/v1", "http://127.0.0.2/v1", "http://[::1]:1/v1", "https://api.example/v1"):
        ExternalService("x", ExternalSettings(base_url=url, api_key_env="K"), {})
    ExternalService("x", ExternalSettings(base_url="http://api.example/v1"), {})


async def test_a_registered_model_answers_and_gets_no_key_but_at_the_address_of_the_settings(opened, service):
    async with opened() as engine:
        status = await engine.register("Other", "new", service.url)
        assert status.info.id == "other/new"
        await events_of(engine, "new")
        assert "authorization" not in {name.lower() for name in service.asked[-1][1]}
        await engine.register("cloud", "more", f"{service.url}/")
        await events_of(engine, "cloud/more")
        assert service.asked[-1][1]["authorization"] == f"Bearer {KEY}"
        with pytest.raises(RequestError, match="with another URL"):
            await engine.register("cloud", "big", "http://127.0.0.1:9/v1")
        for name, model, url in (
            *[("a b", "m", service.url), ("", "m", service.url), ("x", " ", service.url), ("x/y", "m", service.url)],
            *[("x", "m", "ftp://x/v1"), ("x", "m", "http://u:p@x/v1"), ("x", "m", "http://x/v1?k=1"), ("x", "m", "")],
        ):
            with pytest.raises(RequestError):
                await engine.register(name, model, url)


async def test_registering_has_an_end(opened, service):
    async with opened() as engine:
        for number in range(254):
            await engine.register("many", f"m{number}", service.url)
        with pytest.raises(RequestError, match="256"):
            await engine.register("many", "one more", service.url)


def test_services_are_set_by_file_variable_and_flag(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[external.cloud]\nbase_url = "https://api.example/v1"\nmodels = ["a"]\n')
    settings = load_settings(path=file, environ={"CUPOLA_EXTERNAL_CLOUD_MODELS": '["a", "b"]'})
    assert settings.external["cloud"].models == ("a", "b")
    assert settings.for_workers().external == {}
    with pytest.raises(SettingsError, match="api_key"):
        load_settings(path=file, overrides=["external.cloud.api_key=sk-1"])
