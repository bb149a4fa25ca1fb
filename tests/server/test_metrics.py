"""What /metrics shows after what happened."""

import msgspec
import pytest

from cupola.events import DownloadEnded, ModelLoaded, ModelUnloaded, RequestEnded, RequestStarted, TurnEnded
from cupola.frontend import ResidentStatus, SessionReport, Usage
from cupola_server.app import compose
from cupola_server.metrics import MetricsPlugin
from server.fake_engine import TINY, FakeEngine
from server.test_app import get

pytestmark = pytest.mark.anyio
CPU = 'model="tiny-generic-cpu:2",provider="CPU"'


class BusyEngine(FakeEngine):
    """Three turns on a model that runs two at a time."""

    def residents(self):
        report = SessionReport("slots", "", 2, 2048, 2, "CPU", 0.5, 1000, nodes={"CPU": 3, "X": 9}, fallback=True)
        return [ResidentStatus(TINY, report, pid=1, turns=3, ttl_s=None, expires_in_s=None, memory_bytes=12345)]


@pytest.fixture
def plugin():
    return MetricsPlugin()


async def shown(plugin, *events):
    """Return what /metrics says after some events, as a dictionary."""
    app = compose(plugin.api_frontends(settings=None), BusyEngine())
    for event in events:
        plugin.observe(event=event)
    reply = await get(app, "/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    lines = [line for line in reply.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


USAGE = Usage(10, 5, 4)


def turn(reason="stop", usage=USAGE, first_token_s=0.2, total_s=1.0):
    return TurnEnded(TINY.id, "CPU", reason, usage, first_token_s, total_s)


async def test_turns_are_counted_with_their_tokens_and_times(plugin):
    meters = await shown(plugin, turn(), turn("length"), turn(None), turn("cancelled", Usage(10, 0), None))
    assert meters[f'cupola_turns_total{{{CPU},reason="stop"}}'] == 1
    assert meters[f'cupola_turns_total{{{CPU},reason="failed"}}'] == 1
    assert meters[f'cupola_turns_total{{{CPU},reason="cancelled"}}'] == 1
    assert meters[f"cupola_prompt_tokens_total{{{CPU}}}"] == 40
    assert meters[f"cupola_completion_tokens_total{{{CPU}}}"] == 15
    assert meters[f"cupola_cached_tokens_total{{{CPU}}}"] == 12
    assert meters[f"cupola_time_to_first_token_seconds_count{{{CPU}}}"] == 3
    assert meters[f"cupola_inter_token_seconds_count{{{CPU}}}"] == 3
    assert meters[f"cupola_inter_token_seconds_sum{{{CPU}}}"] == pytest.approx(3 * 0.8 / 4)


async def test_an_answer_of_one_token_has_no_time_between_tokens(plugin):
    meters = await shown(plugin, turn(usage=Usage(10, 1)))
    assert f"cupola_inter_token_seconds_count{{{CPU}}}" not in meters


async def test_slots_the_queue_and_memory_are_read_when_asked_for(plugin):
    meters = await shown(plugin)
    assert meters[f"cupola_slots{{{CPU}}}"] == 2
    assert meters[f"cupola_turns_active{{{CPU}}}"] == 2
    assert meters[f"cupola_turns_waiting{{{CPU}}}"] == 1
    assert meters[f"cupola_model_memory_bytes{{{CPU}}}"] == 12345


async def test_who_computes_a_model_and_whether_that_was_asked_for_is_told(plugin):
    meters = await shown(plugin)
    assert meters[f'cupola_model_nodes{{computed_by="CPU",{CPU}}}'] == 3
    assert meters[f'cupola_model_nodes{{computed_by="X",{CPU}}}'] == 9
    assert meters[f"cupola_model_fallback{{{CPU}}}"] == 1


async def test_models_that_come_go_fail_and_return_are_counted(plugin):
    meters = await shown(
        plugin,
        ModelLoaded(TINY.id, "CPU", 2.0),
        ModelUnloaded(TINY.id, "failed", "CPU"),
        ModelLoaded(TINY.id, "CPU", 2.0),
        ModelUnloaded(TINY.id, "evicted", "CPU"),
        ModelLoaded(TINY.id, "CPU", 2.0),
    )
    assert meters[f"cupola_model_loads_total{{{CPU}}}"] == 3
    assert meters[f"cupola_model_load_seconds_sum{{{CPU}}}"] == 6
    assert meters[f"cupola_worker_failures_total{{{CPU}}}"] == 1
    assert meters[f"cupola_worker_restarts_total{{{CPU}}}"] == 1
    assert meters[f"cupola_model_evictions_total{{{CPU}}}"] == 1
    assert meters[f'cupola_model_unloads_total{{{CPU},reason="evicted"}}'] == 1


async def test_downloads_are_counted_by_how_they_end(plugin):
    meters = await shown(plugin, DownloadEnded("m:1", 500, 2.0, ok=True), DownloadEnded("m:1", 500, 1.0, ok=False))
    assert meters['cupola_download_bytes_total{model="m:1"}'] == 500
    assert meters['cupola_downloads_total{model="m:1",outcome="failed"}'] == 1


async def test_requests_are_counted_by_route_and_status(plugin):
    ended = RequestEnded("GET", "/v1/models/{id:path}", 404, 0.1)
    meters = await shown(plugin, RequestStarted("GET"), RequestStarted("GET"), ended)
    assert meters["cupola_http_requests_in_flight"] == 1
    assert meters['cupola_http_requests_total{method="GET",route="/v1/models/{id:path}",status="404"}'] == 1


def test_without_a_server_nothing_is_counted(plugin):
    plugin.observe(event=turn())


async def test_an_event_of_a_later_version_is_skipped(plugin):
    class Later(msgspec.Struct):
        model: str

    await shown(plugin, Later("x"))
