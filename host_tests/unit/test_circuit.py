"""The circuit: contact, relays and faults, what the sensor sees, and the exact energy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.emulated.vm.emu.circuit import OPERATE_MS, Circuit
from boards.emulated.vm.emu.ina219 import INA219, SHUNT_VOLTAGE
from boards.emulated.vm.emu.loads import FOREVER_MS, Appliances, Constant
from host_tests.fakes.chips import Clock

START_MS = 1_790_000_000_000


class Steps:
    """A load of (duration ms, mV, mA) steps; the last one stays."""

    def __init__(self, *steps):
        self._steps = steps

    def at(self, t_ms):
        end_ms = START_MS
        for duration_ms, voltage_mv, current_ma in self._steps:
            end_ms += duration_ms
            self.voltage_mv, self.current_ma = voltage_mv, current_ma
            if t_ms < end_ms:
                self.until_ms = end_ms
                return
        self.until_ms = FOREVER_MS


def make(load=None, **changes):
    return Circuit(load or Constant(230_000, 10_000), START_MS, **changes)


def test_an_open_contact_leaves_the_voltage_and_stops_the_current():
    circuit = make(closed=False)
    assert (circuit.voltage_mv, circuit.current_ma, circuit.shunt_uv) == (230_000, 0, 0)
    assert make(closed=True).current_ma == 10_000


def test_a_wire_past_the_contact_carries_the_current_and_is_counted():
    circuit = make(closed=False)
    circuit.set_bypass(START_MS, True)
    assert (circuit.contact, circuit.current_ma) == (False, 10_000)
    circuit.set_bypass(START_MS + 1000, False)
    assert (circuit.current_ma, circuit.shunt_uv) == (0, 0)
    assert circuit.energy_mj(START_MS + 5000) == (2_300_000, 0)


def test_swapped_wires_turn_what_the_sensor_sees_and_not_what_flows():
    circuit = make(closed=True)
    circuit.set_swapped(START_MS, True)
    assert (circuit.current_ma, circuit.shunt_uv) == (10_000, -1_000_000)
    assert circuit.energy_mj(START_MS + 1000) == (2_300_000, 0)
    circuit.set_swapped(START_MS + 1000, False)
    assert circuit.shunt_uv == 1_000_000


def test_the_sensor_sees_the_circuit_through_ratios():
    circuit = make(closed=True, voltage_ratio_x1000=10_000, current_ratio_x1000=12_500)
    assert circuit.bus_mv == 23_000
    assert circuit.shunt_uv == 80_000  # 10 A / 12.5 * 0.1 ohm
    circuit = make(closed=True, current_ratio_x1000=5_000, shunt_uohm=50_000)
    assert circuit.shunt_uv == 100_000


def test_a_latching_relay_needs_a_pulse_and_stays():
    circuit = make(closed=False)
    assert circuit.set_coils(START_MS, 1, 0) == START_MS + OPERATE_MS
    circuit.set_coils(START_MS + OPERATE_MS - 1, 0, 0)
    circuit.settle(START_MS + 1000)
    assert not circuit.contact, "too short"
    circuit.set_coils(START_MS + 2000, 1, 0)
    circuit.set_coils(START_MS + 2000 + OPERATE_MS, 0, 0)
    assert circuit.contact
    circuit.settle(START_MS + 86_400_000)
    assert circuit.contact
    circuit.set_coils(START_MS + 90_000_000, 0, 1)
    circuit.set_coils(START_MS + 90_000_100, 0, 0)
    assert not circuit.contact


def test_both_coils_at_once_move_nothing():
    circuit = make(closed=True)
    assert circuit.set_coils(START_MS, 1, 1) is None
    circuit.settle(START_MS + 1000)
    assert circuit.contact
    circuit.set_coils(START_MS + 2000, 0, 1)
    circuit.set_coils(START_MS + 2001, 1, 1)
    circuit.settle(START_MS + 3000)
    assert circuit.contact


def test_a_single_coil_holds_the_contact():
    moved = []
    circuit = make(relay_kind="single", on_contact=moved.append)
    circuit.set_coils(START_MS, 1)
    circuit.settle(START_MS + OPERATE_MS - 1)
    assert not circuit.contact
    circuit.settle(START_MS + OPERATE_MS)
    assert circuit.contact
    circuit.set_coils(START_MS + 1000, 0)
    circuit.settle(START_MS + 1000 + OPERATE_MS)
    assert not circuit.contact
    assert moved == [True, False]


def test_a_single_coil_that_is_driven_again_in_time_does_not_drop():
    """A reset lets the pin go for no longer than it takes to drive it again."""
    circuit = make(relay_kind="single", closed=True)
    circuit.set_coils(START_MS + OPERATE_MS - 1, 1)
    circuit.settle(START_MS + 1000)
    assert circuit.contact
    circuit = make(relay_kind="single", closed=True)
    circuit.settle(START_MS + 1000)
    assert not circuit.contact


def test_a_welded_contact_never_opens_and_recovers_when_repaired():
    circuit = make(closed=True)
    circuit.set_contact_fault(START_MS + 100, "welded")
    circuit.set_coils(START_MS + 200, 0, 1)
    circuit.settle(START_MS + 1000)
    assert circuit.contact
    assert circuit.current_ma == 10_000
    circuit.set_contact_fault(START_MS + 2000, "ok")
    assert not circuit.contact, "the armature had moved"


def test_a_stuck_open_contact_never_closes():
    circuit = make(closed=False)
    circuit.set_contact_fault(START_MS, "stuck_open")
    circuit.set_coils(START_MS + 200, 1, 0)
    circuit.settle(START_MS + 1000)
    assert not circuit.contact
    with pytest.raises(ValueError, match="ok, welded, stuck_open"):
        circuit.set_contact_fault(START_MS + 2000, "broken")


def test_energy_is_exact_over_changes_of_load_and_contact():
    load = Steps((1_000, 230_000, 1_000), (2_500, 231_111, 3_333), (1, 230_001, 1))
    circuit = make(load, closed=True)
    expected_nj = 230_000 * 1_000 * 1_000 + 231_111 * 3_333 * 2_500 + 230_001 * (1 + 500)
    assert circuit.energy_mj(START_MS + 4_001) == divmod(expected_nj, 1_000_000)
    circuit.set_coils(START_MS + 5_000, 0, 1)
    expected_nj += 230_001 * (999 + OPERATE_MS)
    assert circuit.energy_mj(START_MS + 50_000) == divmod(expected_nj, 1_000_000)
    circuit.set_load(START_MS + 60_000, Constant(240_000, 5_000))
    circuit.set_coils(START_MS + 61_000, 1, 0)
    expected_nj += 240_000 * 5_000 * (9_000 - OPERATE_MS)
    assert circuit.energy_mj(START_MS + 70_000) == divmod(expected_nj, 1_000_000)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3_000_000), st.sampled_from("ocw-")), max_size=12),
    st.integers(0, 1_000),
)
def test_looking_more_often_changes_nothing(commands, seed):
    """Energy and contact are the same whether the circuit is asked once or all the time."""
    circuits = [make(Appliances(seed), closed=True) for _ in range(2)]
    now_ms = START_MS
    for wait_ms, command in commands:
        for part in range(1, 8):
            circuits[1].energy_mj(now_ms + wait_ms * part // 8)
        now_ms += wait_ms
        for circuit in circuits:
            if command == "w":
                circuit.set_contact_fault(now_ms, "welded")
            else:
                circuit.set_coils(now_ms, int(command == "c"), int(command == "o"))
    now_ms += 100_000
    assert circuits[0].energy_mj(now_ms) == circuits[1].energy_mj(now_ms)
    assert circuits[0].contact == circuits[1].contact


def test_the_sensor_samples_before_the_contact_opens():
    """What was converted before a change is what was there before it."""
    clock = Clock(START_MS)
    circuit = make(closed=True, voltage_ratio_x1000=10_000, current_ratio_x1000=12_500)
    circuit.sampler = chip = INA219(circuit, clock)

    def shunt():
        buf = bytearray(2)
        chip.register_into(SHUNT_VOLTAGE, buf)
        return buf[0] << 8 | buf[1]

    chip.write(bytes([0, 0x3F, 0xFF]))  # 136.2 ms a conversion
    clock.pass_ms(140)
    circuit.set_coils(clock.now_ms(), 0, 1)
    clock.pass_ms(60)
    circuit.energy_mj(clock.now_ms())  # somebody looks long after it opened
    assert shunt() == 8_000
    clock.pass_ms(100)
    assert shunt() == 0
