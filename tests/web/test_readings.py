"""Every reading of a GPU, or why there is none."""

from __future__ import annotations

from datetime import timedelta

from gleaner.bus.messages import GpuReading, Xid
from services.web.shown.readings import label_of, readings_of
from tests.builders import NOW


def test_every_reading_has_a_value_or_a_reason() -> None:
    reading = GpuReading(
        gpu="GPU-1",
        index=0,
        utilization_percent=0.0,
        memory_used_bytes=31 * 2**30,
        performance_state=2,
        energy_joules=7.2e6,
        throttle_reasons=(),
        pcie_sent_bytes_per_second=2.5e9,
        xids=(Xid(number=31, severity="application", meaning="page fault", count=3, last_at=NOW),),
        problems={
            "fan_percent": "unsupported",
            "power_watts": "no permission",
            "temperature_celsius": "GPU is lost",
        },
    )

    told = {one.name: one.value or one.why for one in readings_of(reading)}
    assert told.keys() == GpuReading.model_fields.keys() - {
        *("gpu", "index", "problems", "ages_seconds", "processes")
    }
    assert told["utilization_percent"] == "0 %"
    assert told["memory_used_bytes"] == "31.0 GiB"
    assert told["performance_state"] == "P2"
    assert told["energy_joules"] == "2.00 kWh"
    assert told["throttle_reasons"] == "nothing"
    assert told["pcie_sent_bytes_per_second"] == "2500.0 MB/s"
    assert told["xids"] == "31, 3 times (page fault)"
    assert told["fan_percent"] == "not offered by this driver"
    assert told["power_watts"] == "no permission to read it"
    assert told["temperature_celsius"] == "GPU is lost"
    assert told["sm_clock_mhz"] == "no answer"


def test_a_reading_that_is_asked_rarely_is_as_old_as_it_is() -> None:
    reading = GpuReading(gpu="GPU-1", index=0, pcie_width=16, ages_seconds={"pcie_width": 40})

    told = {one.name: one.at for one in readings_of(reading, NOW)}

    assert told["pcie_width"] == NOW - timedelta(seconds=40)
    assert told["utilization_percent"] == NOW


def test_a_reading_that_is_new_has_a_name_too() -> None:
    assert label_of("decoder_utilization_percent") == "Decoder utilization"
