"""The metrics' names, labels and bounds are a contract with dashboards."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from voicebridge.metrics import WEBHOOK_EVENTS, WEBHOOK_RESULTS, Metrics

CONTRACT = {
    "calls_active": ("gauge", ()),
    "calls_total": ("counter", ("direction", "result")),
    "answer_seconds": ("histogram", ()),
    "first_audio_seconds": ("histogram", ()),
    "turn_response_seconds": ("histogram", ("stage",)),
    "bargein_stop_seconds": ("histogram", ()),
    "bargein_total": ("counter", ("outcome",)),
    "frame_lateness_seconds": ("histogram", ()),
    "playout_lead_seconds": ("histogram", ()),
    "playout_underruns_total": ("counter", ()),
    "jitter_buffer_depth_seconds": ("histogram", ()),
    "event_loop_lag_seconds": ("histogram", ()),
    "webhooks_total": ("counter", ("event", "result")),
    "api_requests_total": ("counter", ("operation", "status")),
    "media_reconnects_total": ("counter", ("result",)),
    "bot_errors_total": ("counter", ("bot",)),
    "draining": ("gauge", ()),
}


def exposed(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.render()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_of_the_contract_exists_with_its_type_and_labels() -> None:
    metrics = Metrics()
    for name, (kind, labels) in CONTRACT.items():
        metric = getattr(metrics, name)
        assert (metric._type, metric._labelnames) == (kind, labels), name


def test_nothing_else_is_exposed() -> None:
    families = {f.name for f in text_string_to_metric_families(Metrics().render()[0].decode())}
    beyond = {"media_format_changes_total"}  # a warning of the media path
    assert families == {
        f"voicebridge_{name}".removesuffix("_total") for name in {*CONTRACT, *beyond}
    }


def test_exposed_names_keep_their_total_and_have_no_creation_times() -> None:
    metrics = Metrics()
    metrics.calls_total.labels("inbound", "completed").inc()
    metrics.draining.set(1)
    samples = exposed(metrics)
    labels = (("direction", "inbound"), ("result", "completed"))
    assert samples["voicebridge_calls_total", labels] == 1
    assert samples["voicebridge_draining", ()] == 1
    assert not [name for name, _ in samples if name.endswith("_created")]


def test_the_content_type_is_prometheus_text() -> None:
    assert Metrics().render()[1].startswith("text/plain; version=")


def test_buckets_are_seconds_and_rise() -> None:
    metrics = Metrics()
    for name, (kind, labels) in CONTRACT.items():
        if kind == "histogram":
            metric = getattr(metrics, name)
            bounds = (metric.labels("x") if labels else metric)._upper_bounds
            assert bounds == sorted(set(bounds)), name
            assert bounds[-2] <= 30, name


def test_two_instances_do_not_share_numbers() -> None:
    first, second = Metrics(), Metrics()
    first.playout_underruns_total.inc()
    assert exposed(second)["voicebridge_playout_underruns_total", ()] == 0


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=30))
def test_strangers_cannot_make_new_series(names: list[tuple[str, str]]) -> None:
    metrics = Metrics()
    for event, result in names:
        metrics.count_webhook(event, result)
    seen = [dict(labels) for name, labels in exposed(metrics) if "webhooks_total" in name]
    assert all(labels["event"] in WEBHOOK_EVENTS | {"other"} for labels in seen)
    assert all(labels["result"] in WEBHOOK_RESULTS | {"other"} for labels in seen)
    counted = sum(v for (name, _), v in exposed(metrics).items() if "webhooks_total" in name)
    assert counted == len(names)
