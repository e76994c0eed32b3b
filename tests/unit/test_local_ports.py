"""Ports of the embedded stack: free or not, and who holds them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from include.local import ports
from include.local.errors import PortTakenError, StackError
from include.local.layout import HOST, PORTS_NEEDED, layout_of, port_base_from


@pytest.fixture
def held_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_held_port_is_not_free_and_answers(held_port: int) -> None:
    assert not ports.is_free(held_port)
    assert ports.answers(held_port)


def test_a_port_is_free_once_its_server_is_gone() -> None:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        port = server.getsockname()[1]
    assert ports.is_free(port)
    assert not ports.answers(port)


def test_the_error_for_a_held_port_names_the_service_the_port_and_the_holder(held_port: int) -> None:
    with pytest.raises(PortTakenError) as caught:
        ports.require_free("store", held_port)
    message = str(caught.value)
    assert f"port {held_port} (store)" in message
    assert f"(pid {os.getpid()})" in message
    assert "\n" not in message


def test_a_port_of_nobody_has_no_holder() -> None:
    with socket.socket() as bound_only:
        bound_only.bind((HOST, 0))
        assert ports.holder(bound_only.getsockname()[1]) is None


def test_a_free_base_has_as_many_free_ports_as_a_stack_needs() -> None:
    base = ports.free_port_base()
    assert all(ports.is_free(base + offset) for offset in range(PORTS_NEEDED))


def test_every_service_has_a_port_of_its_own_within_the_range_that_is_checked() -> None:
    taken = list(layout_of(6400).ports.values())
    assert sorted(taken) == [6400 + offset for offset in range(PORTS_NEEDED)]


@pytest.mark.parametrize("base", [0, 80, 1023, 65532, 70000])
def test_a_base_that_leaves_no_room_is_refused(base: int) -> None:
    with pytest.raises(StackError, match=f"PORT_BASE={base} is out of range"):
        layout_of(base)


@pytest.mark.parametrize("text", ["abc", "64.00", "-6400", "6400 "])
def test_a_base_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(StackError, match="is no number"):
        port_base_from({"PORT_BASE": text})


def test_an_empty_base_means_the_default() -> None:
    assert port_base_from({"PORT_BASE": ""}) == 6400
