"""Plain values: they compare and show themselves by their fields, and patterns take them apart."""

from __future__ import annotations

import inspect

import pytest

from natsvc.wire import effects
from natsvc.wire.addresses import ServerAddress
from natsvc.wire.complaints import Complaint
from natsvc.wire.effects import Disconnect, Settle, WakeAt
from natsvc.wire.parser import ErrorReport, Info
from natsvc.wire.pool import Attempt
from natsvc.wire.values import Value

EFFECTS = [
    one for one in vars(effects).values() if isinstance(one, type) and issubclass(one, Value) and one is not Value
]
KINDS = [*EFFECTS, Attempt, Complaint, ErrorReport, Info, ServerAddress]


def test_values_are_equal_if_their_classes_and_their_fields_are() -> None:
    assert Disconnect(1, b"x") == Disconnect(1, b"x", in_order=False)
    assert hash(Disconnect(1, b"x")) == hash(Disconnect(1, b"x"))
    assert Disconnect(1) != Disconnect(2)
    assert WakeAt(1) != Info({"time": 1})
    assert WakeAt(1) != 1


def test_a_value_shows_its_fields() -> None:
    assert repr(WakeAt(7)) == "WakeAt(time=7)"
    assert repr(ErrorReport("no")) == "ErrorReport(text='no')"


def test_an_effect_is_taken_apart_by_a_pattern_in_the_order_in_which_it_is_made() -> None:
    def waiter(outcome: object) -> None:
        pass

    match Settle(waiter, 5):
        case Settle(found, outcome):
            assert (found, outcome) == (waiter, 5)
    assert len(EFFECTS) == 7
    for kind in EFFECTS:
        assert vars(kind)["__match_args__"] == tuple(inspect.signature(kind).parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_has_a_slot_for_everything_it_is_made_of_and_for_nothing_else(kind: type[Value]) -> None:
    assert set(kind.__slots__) == set(inspect.signature(kind).parameters)
    assert kind.__dictoffset__ == 0
