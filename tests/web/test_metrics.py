"""`/metrics` as Prometheus reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gleaner.bus.messages import Disk, GpuReading, HostReading, Telemetry, Xid
from services.web.data.exposition import Exposition, Family, labels
from services.web.data.gpu_metrics import GPU, GPU_BY_LABEL, HOST
from tests.builders import NOW
from tests.web.conftest import Web
from tests.web.example import gpu_id

Samples = dict[tuple[str | tuple[str, str], ...], float]
DOCUMENT = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"
ATLAS = {"node": "atlas", "gpu": "0", "uuid": gpu_id("atlas", 0), "model": "H100 80GB HBM3"}


async def scrape(web: Web) -> Samples:
    """Return all samples by name and labels."""
    answer = await web.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = [
        ((sample.name, *sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    ]
    samples = dict(found)
    assert len(samples) == len(found), "a sample stands there twice"
    return samples


def key(name: str, **values: str) -> tuple[str | tuple[str, str], ...]:
    """Return how `scrape` names a sample."""
    return (name, *sorted(values.items()))


async def test_metrics_tell_states_nodes_runs_and_evictions(busy: Web) -> None:
    samples = await scrape(busy)

    assert samples[key("gleaner_gpu_utilization_ratio", **ATLAS)] == pytest.approx(0.97)
    assert samples[key("gleaner_gpu_state", **ATLAS, state="busy")] == 1
    assert samples[key("gleaner_gpu_state", **ATLAS, state="idle")] == 0
    assert samples[key("gleaner_node_presence", node="cygnus", presence="offline")] == 1
    assert samples[key("gleaner_gpus_blocked", node="boreas", code="people")] == 4
    assert samples[key("gleaner_node_uptime_seconds", node="atlas")] == 12 * 86_400
    assert samples[key("gleaner_recent_eviction_seconds_count", stage="noticed_to_term")] == 1


async def test_metrics_are_compressed_for_who_takes_that(busy: Web) -> None:
    packed = await busy.client.get("/metrics", headers={"accept-encoding": "gzip"})
    plain = await busy.client.get("/metrics", headers={"accept-encoding": "gzip;q=0"})

    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text


async def test_what_is_stale_has_a_state_but_no_readings(busy: Web) -> None:
    samples = await scrape(busy)

    draco = [one for one in samples if ("node", "draco") in one and str(one[0]).endswith("_ratio")]
    unknown = [one for one in samples if {("node", "draco"), ("state", "unknown")} <= set(one)]
    assert not draco
    assert {samples[one] for one in unknown} == {1}


async def test_what_is_simulated_says_so_everywhere(busy: Web) -> None:
    samples = await scrape(busy)

    simulated = [name for name, *_ in samples if (("simulated", "true")) in _]
    assert {"gleaner_gpu_state", "gleaner_node_cpus"} <= set(simulated)
    assert not [one for one in samples if ("node", "atlas") in one and ("simulated", "true") in one]


async def test_all_readings_have_base_units_and_missing_ones_are_absent(web: Web) -> None:
    reading = GpuReading(
        gpu=gpu_id("atlas", 0),
        index=0,
        encoder_percent=12.0,
        fan_percent=40.0,
        sm_clock_mhz=1755.0,
        energy_joules=3.6e9,
        power_limit_watts=700.0,
        memory_temperature_celsius=71.0,
        pcie_width=8,
        pcie_sent_bytes_per_second=1.5e9,
        ecc_corrected_errors=2**53 - 1,
        ecc_aggregate_uncorrected_errors=1,
        remapping_pending=False,
        throttle_reasons=("sw_power_cap",),
        recovery_action="none",
        xids=(
            Xid(number=79, severity="critical", meaning="fell off the bus", count=2, last_at=NOW),
        ),
    )
    host = HostReading(
        network_sent_bytes_per_second=1e6,
        disks=(Disk(mount='/a "b"\\c', total_bytes=100, used_bytes=7),),
    )
    example = web.example()
    await web.say([*example.messages(), *example.beats()])
    await web.say(
        [Telemetry(node="atlas", gpus=(reading,), host=host, interval_seconds=10, at=NOW)]
    )

    samples = await scrape(web)

    for name, value, more in (
        ("encoder_utilization_ratio", 0.12, {}),
        ("fan_speed_ratio", 0.4, {}),
        ("clock_hertz", 1.755e9, {"clock": "sm"}),
        ("energy_joules_total", 3.6e9, {}),
        ("power_limit_watts", 700, {}),
        ("memory_temperature_celsius", 71, {}),
        ("pcie_link_width", 8, {}),
        ("pcie_sent_bytes_per_second", 1.5e9, {}),
        ("ecc_errors_total", 2**53 - 1, {"error": "corrected"}),
        ("ecc_lifetime_errors_total", 1, {"error": "uncorrected"}),
        ("row_remapping_pending", 0, {}),
        ("throttled", 1, {}),
        ("throttle_reason", 1, {"reason": "sw_power_cap"}),
        ("recovery_action", 1, {"action": "none"}),
        ("xid_errors_total", 2, {"xid": "79", "severity": "critical"}),
    ):
        assert samples[key(f"gleaner_gpu_{name}", **ATLAS, **more)] == pytest.approx(value), name
    assert key("gleaner_gpu_utilization_ratio", **ATLAS) not in samples
    assert key("gleaner_gpu_decoder_utilization_ratio", **ATLAS) not in samples
    assert key("gleaner_node_load1", node="atlas") not in samples
    assert samples[key("gleaner_node_network_sent_bytes_per_second", node="atlas")] == 1e6
    disk = key("gleaner_node_filesystem_used_bytes", node="atlas", mountpoint='/a "b"\\c')
    assert samples[disk] == 7


def test_every_reading_that_is_a_number_has_its_metric() -> None:
    apart = {"throttle_reasons", "recovery_action", "xids", "disks"}
    not_readings = {"gpu", "index", "processes", "problems", "ages_seconds", "memory_total_bytes"}
    told = {field for field, *_ in (*GPU, *GPU_BY_LABEL)}

    assert told | apart - {"disks"} == set(GpuReading.model_fields) - not_readings
    assert {field for field, *_ in HOST} | {"disks"} == set(HostReading.model_fields)


async def test_the_document_names_every_metric(busy: Web) -> None:
    answer = await busy.client.get("/metrics")
    families = set(re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE))
    families |= {family.name for *_, family in (*GPU, *HOST)}
    families |= {family.name for _, _, family, _ in GPU_BY_LABEL}

    missing = families - set(re.findall(r"gleaner_\w+", DOCUMENT.read_text()))

    assert not missing


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back_from_a_label(text: str) -> None:
    page = Exposition()
    page.add(Family(name="x", text="t"), labels(name=text), 1)

    (family,) = text_string_to_metric_families(b"".join(page.chunks()).decode())

    assert family.samples[0].labels == {"name": text}
