import pytest

from cupola.errors import SettingsError
from cupola.settings import Settings, load_settings


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_flags_win_over_the_environment_and_that_over_the_file(file):
    path = file("[server]\nport = 1\nhost = 'one'\n[models]\nttl_s = 1\n")
    environ = {"CUPOLA_SERVER_PORT": "2", "CUPOLA_MODELS_TTL_S": "2", "HOME": "/"}
    settings = load_settings(["server.port=3"], environ=environ, path=path)
    assert (settings.server.port, settings.models.ttl_s, settings.server.host) == (3, 2.0, "one")


def test_without_any_source_there_are_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr("cupola.settings.default_path", lambda: tmp_path / "none.toml")
    assert load_settings(environ={}) == Settings()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nprot = 1", "server.prot"),
        ("[server]\nport = 'x'", "server.port"),
        ("[server]\nport = 70000", "server.port"),
        ("[sever]\nport = 1", "sever"),
        ("server = 1", "server"),
        ("[models]\npreload = [1]", "models.preload[0]"),
        ("[worker]\nload_timeout_s = -1", "worker.load_timeout_s"),
        ("not toml", ""),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_key_and_the_file(file, text, key):
    path = file(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={}, path=path)
    assert caught.value.key == key
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("variable", ["CUPOLA_SERVER_PROT", "CUPOLA_FOO", "CUPOLA_SERVER_PORT"])
def test_a_mistake_in_the_environment_is_named_with_its_variable(variable):
    with pytest.raises(SettingsError, match=variable):
        load_settings(environ={variable: "x"})


@pytest.mark.parametrize(("key", "near"), [("server.prot", "server.port"), ("sevrer.port", "server"), ("zzz", None)])
def test_a_misspelt_setting_is_told_with_the_nearest_one(key, near):
    with pytest.raises(SettingsError) as caught:
        load_settings([f"{key}=1"], environ={})
    assert caught.value.problem.partition("; did you mean ")[2] == (f"{near!r}?" if near else "")


def test_a_flag_without_a_value_is_refused():
    with pytest.raises(SettingsError, match="section.key=value"):
        load_settings(["server.port"], environ={})


def test_a_value_that_looks_like_a_number_may_be_a_name():
    assert load_settings(["models.default=123"], environ={}).models.default == "123"


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(environ={"CUPOLA_CONFIG": str(tmp_path / "none.toml")})


def test_a_providers_options_have_two_names_in_the_environment():
    settings = load_settings(environ={"CUPOLA_PROVIDERS_CPU_THREADS": "2"})
    assert settings.providers == {"cpu": {"threads": 2}}
