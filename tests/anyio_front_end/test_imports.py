"""Design: a world does not load another one's."""

from __future__ import annotations

import natsvc
import natsvc.anyio
import natsvc.asyncio
from natsvc.testing import NatsServer
from tests.test_package import fresh_interpreter, loaded_by

PROGRAM = """
import json, sys
import anyio
from natsvc.anyio import ServiceClient, add_service, connect

async def echo(request):
    return request.data

def blocking(request):
    request.respond(request.data)

async def main():
    async with connect({url!r}) as nc:
        async with add_service(nc, name="imports", timeout=10) as service:
            await service.add_endpoint("imports-e", handler=echo)
            await service.add_endpoint("imports-b", handler=blocking)
            await ServiceClient(nc).request("imports-e", b"x")
            await ServiceClient(nc).request("imports-b", b"x")
            await ServiceClient(nc).stats("imports")

anyio.run(main, backend={backend!r})
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""


def test_importing_it_loads_neither_an_event_loop_nor_nats_py() -> None:
    assert loaded_by("natsvc.anyio").isdisjoint({"asyncio", "trio", "nats"} - loaded_by("anyio"))


def test_under_trio_no_asyncio_is_loaded_but_what_anyio_itself_loads(server: NatsServer) -> None:
    plain = "import anyio, json, sys; anyio.run(anyio.sleep, 0, backend='trio')\n"
    alone = set(fresh_interpreter(plain + "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"))
    loaded = set(fresh_interpreter(PROGRAM.format(url=server.url, backend="trio")))
    assert "trio" in loaded
    assert loaded.isdisjoint({"nats", "asyncio"} - alone)


def test_under_asyncio_neither_trio_nor_nats_py_is_loaded(server: NatsServer) -> None:
    loaded = set(fresh_interpreter(PROGRAM.format(url=server.url, backend="asyncio")))
    assert loaded.isdisjoint({"nats", "trio"})


def test_it_has_the_names_of_the_asyncio_front_end_and_all_shared_ones() -> None:
    assert set(natsvc.anyio.__all__) == set(natsvc.asyncio.__all__)
    for name in natsvc.__all__:
        assert getattr(natsvc.anyio, name) is getattr(natsvc, name)
