import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.profiler.host.energy_meters import EnergyMeter
from jmsnas.profiler.timing.energy import find_meter, measure_energy_j, measure_idle_power_w


class Host:
    """A synthetic host with idle power, more power while a block runs, and a clock that advances with it."""

    def __init__(self, idle_w: float, block_w: float, call_s: float, update_s: float = 1e-3) -> None:
        self.idle_w, self.block_w, self.call_s = idle_w, block_w, call_s
        self.now_s, self.joules, self.calls = 0.0, 0.0, 0
        self.meter = EnergyMeter("synthetic", "all", update_s, lambda: self.joules)

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.joules += self.idle_w * seconds

    def run(self, loops: int) -> float:
        self.calls += loops
        self.sleep(loops * self.call_s)
        self.joules += self.block_w * loops * self.call_s
        return loops * self.call_s

    def net_j(self, seconds: float = 0.5) -> float | None:
        idle = measure_idle_power_w(self.meter, seconds, self.sleep, self.clock)
        return measure_energy_j(self.meter, self.run, idle, seconds, self.clock)


def test_net_joules_by_hand() -> None:
    host = Host(idle_w=10, block_w=25, call_s=2e-3)
    assert measure_idle_power_w(host.meter, 1.0, host.sleep, host.clock) == pytest.approx(10)
    # 35 W for 2 ms are 70 mJ gross; the idle host draws 20 mJ of them.
    assert measure_energy_j(host.meter, host.run, 10.0, 0.5, host.clock) == pytest.approx(0.05)
    assert measure_energy_j(host.meter, host.run, 0.0, 0.5, host.clock) == pytest.approx(0.07)


@given(
    st.floats(0, 100), st.floats(1, 100), st.floats(1e-6, 2), st.floats(0.1, 2), st.sampled_from([1e-3, 0.1])
)
def test_net_joules_are_the_blocks_own_whatever_the_host_draws(
    idle: float, block: float, call_s: float, seconds: float, update_s: float
) -> None:
    host = Host(idle, block, call_s, update_s)
    found = host.net_j(seconds)
    reported = block > 2 * update_s / max(seconds, 20 * update_s) * (2 * idle + block)
    assert found == pytest.approx(block * call_s, rel=1e-6) or (found is None and not reported)


@pytest.mark.parametrize("call_s", [1e-6, 2e-3, 3.0])
def test_runs_for_the_time_asked_and_not_much_longer(call_s: float) -> None:
    host = Host(5, 5, call_s)
    assert host.net_j(0.5) is not None
    # The idle time, the first call, then at least 0.5 s: up to the end of the calls between two looks.
    assert 1.0 <= host.now_s <= 1.0 + call_s + max(call_s, 0.04) + 1e-9


def test_slow_meter_is_read_over_more_time() -> None:
    host = Host(20, 50, 1e-3, update_s=0.1)
    assert host.net_j(0.5) == pytest.approx(0.05)
    assert host.now_s >= 2 * 20 * 0.1


@pytest.mark.parametrize("block_w", [0.0, -1.0, 0.03])
def test_what_the_meter_cannot_tell_from_idle_is_none(block_w: float) -> None:
    # Two readings of up to 1 ms age at 10 W: an error of 0.02 J; the block's 0.03 W in 0.5 s are 0.015 J.
    assert Host(10, block_w, 1e-3).net_j() is None


def test_a_counter_that_stands_still_is_none() -> None:
    assert Host(0, 0, 1e-3).net_j() is None


def test_a_reading_that_fails_is_none() -> None:
    host = Host(10, 20, 1e-3)
    broken = EnergyMeter("broken", "nothing", 1e-3, lambda: math.nan)
    assert math.isnan(measure_idle_power_w(broken, 0.5, host.sleep, host.clock))
    assert measure_energy_j(broken, host.run, 1.0, 0.5, host.clock) is None
    assert measure_energy_j(host.meter, host.run, math.nan, 0.5, host.clock) is None


def test_bare_host_says_what_was_looked_for(tmp_path: Path) -> None:
    found = str(find_meter("cpu", tmp_path))
    assert found.startswith(
        "no meter: no RAPL package in /sys/class/powercap and no INA3221 rail of the CPU in"
    )


def test_unknown_processor_is_no_meter(tmp_path: Path) -> None:
    assert str(find_meter("tpu", tmp_path)).endswith("processor 'tpu': expected cpu or cuda")


@pytest.mark.parametrize("processor", ["cpu", "cuda"])
def test_this_host_has_a_meter_or_says_in_one_line_why_not(processor: str) -> None:
    meter = find_meter(processor)
    if isinstance(meter, str):
        assert meter.startswith("no meter: ") and "\n" not in meter
    else:
        with meter.awake():
            first_j = meter.read_j()
            assert meter.read_j() >= first_j
