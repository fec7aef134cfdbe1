import pytest

from dms.observe.metrics import MAX_SAMPLES, Counter, Gauge, Metric, Registry, Sample, prometheus_text

CPU = Metric("dms.sys.cpu.total.norm", Gauge, "1", "share of all cores that is busy")
RX = Metric("dms.allocation.network.rx", Counter, "bytes", 'what it "received"\nso far', {"allocationID": "which"})


def test_the_text_is_that_of_prometheus() -> None:
    samples = [
        RX.sample(12345678901, allocationID='a"b\\c\nd'),
        CPU.sample(0.25),
        RX.sample(float("nan"), allocationID="z"),
        RX.sample(float("inf"), allocationID="é"),
    ]
    assert prometheus_text(samples).decode() == (
        '# HELP dms_allocation_network_rx_total what it "received"\\nso far (bytes)\n'
        "# TYPE dms_allocation_network_rx_total counter\n"
        'dms_allocation_network_rx_total{allocationID="a\\"b\\\\c\\nd"} 12345678901\n'
        'dms_allocation_network_rx_total{allocationID="z"} NaN\n'
        'dms_allocation_network_rx_total{allocationID="é"} +Inf\n'
        "# HELP dms_sys_cpu_total_norm share of all cores that is busy (1)\n"
        "# TYPE dms_sys_cpu_total_norm gauge\n"
        "dms_sys_cpu_total_norm 0.25\n"
    )


def test_a_source_that_fails_costs_its_own_only_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()

    def broken() -> list[Sample]:
        raise ZeroDivisionError

    registry.add(broken)
    registry.add(lambda: [CPU.sample(1)] * (MAX_SAMPLES + 5))
    assert len(registry.collect()) == MAX_SAMPLES
    assert "metrics_source_failed" in caplog.text
