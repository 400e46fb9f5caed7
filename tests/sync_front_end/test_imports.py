"""Design: no event loop anywhere, not even imported; and nothing is loaded that a plain connection doesn't need."""

from __future__ import annotations

import natsvc
import natsvc.asyncio
import natsvc.sync
from natsvc.testing import NatsServer
from tests.test_package import SLOW, fresh_interpreter, loaded_by

PROGRAM = """
import json, sys
from natsvc.sync import ServiceClient, add_service, connect

with connect({url!r}) as nc, add_service(nc, name="imports", timeout=10) as service:
    service.endpoint("imports-e")(lambda request: request.data)
    ServiceClient(nc).request("imports-e", b"x")
    ServiceClient(nc).stats("imports")
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""

SCRIPT = """
import sys
from natsvc.sync import connect

with connect({url!r}) as nc:
    assert nc.request("imports-s", b"x").data == b"x"
loaded = sorted(sys.modules)
import json
print(json.dumps(loaded))
"""

OTHER_WORLDS = {"asyncio", "anyio", "trio", "nats", "concurrent"}


def test_importing_it_loads_no_event_loop() -> None:
    assert loaded_by("natsvc.sync").isdisjoint(OTHER_WORLDS)


def test_a_whole_program_loads_no_event_loop_and_without_tls_no_ssl(server: NatsServer) -> None:
    loaded = set(fresh_interpreter(PROGRAM.format(url=server.url)))
    assert loaded.isdisjoint(OTHER_WORLDS | {"ssl", "_ssl"})


def test_a_script_that_asks_once_loads_nothing_of_services_and_nothing_that_is_slow_to_load(server: NatsServer) -> None:
    with natsvc.sync.connect(server.url) as nc, natsvc.sync.add_service(nc, name="imports") as service:
        service.endpoint("imports-s")(lambda request: request.data)
        loaded = set(fresh_interpreter(SCRIPT.format(url=server.url)))
    assert {name for name in loaded if name.startswith("natsvc.core.")} == {"natsvc.core.calling"}
    assert loaded.isdisjoint(SLOW | OTHER_WORLDS | {"natsvc.sync.service", "natsvc.sync.client", "queue", "signal"})


def test_it_has_the_names_of_the_asyncio_front_end_and_all_shared_ones() -> None:
    # Every handler blocks here, so there is no second kind of request.
    assert set(natsvc.sync.__all__) == set(natsvc.asyncio.__all__) - {"BlockingRequest"}
    for name in natsvc.__all__:
        assert getattr(natsvc.sync, name) is getattr(natsvc, name)
