"""Ports that are kept, and one service per data folder."""

import json
import socket

import pytest

from core.errors import ConfigurationError
from deploy.local.locks import single_service, wait_until_unused
from deploy.local.ports import PORT_RANGE, choose_ports, is_free, kept_ports


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", choose_ports(["one"])["one"]))
        server.listen()
        yield server.getsockname()[1]


def test_chosen_ports_are_distinct_free_and_leave_room_for_their_neighbours():
    ports = choose_ports([f"part{number}" for number in range(20)], offsets=(0, 10_000))

    assert len(set(ports.values())) == 20
    assert all(port in PORT_RANGE and port + 10_000 < 65_536 for port in ports.values())


def test_a_port_somebody_listens_on_is_not_free(listener):
    assert not is_free(listener)


def test_ports_stay_the_same_from_start_to_start(tmp_path):
    first = kept_ports(tmp_path / "ports.json", ["a", "b"])

    assert kept_ports(tmp_path / "ports.json", ["a", "b"]) == first


def test_ports_are_chosen_anew_when_somebody_took_one(tmp_path, listener):
    (tmp_path / "ports.json").write_text(json.dumps({"a": listener}))

    ports = kept_ports(tmp_path / "ports.json", ["a"])

    assert ports["a"] != listener
    assert json.loads((tmp_path / "ports.json").read_text()) == ports


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "x"}'])
def test_a_damaged_ports_file_is_written_anew(tmp_path, content):
    (tmp_path / "ports.json").write_text(content)

    ports = kept_ports(tmp_path / "ports.json", ["a"])

    assert is_free(ports["a"])


def test_a_second_service_on_the_same_folder_is_refused_with_a_sentence(tmp_path):
    refused = pytest.raises(ConfigurationError, match=r"Another zimg .* PORT=8081")

    with single_service(tmp_path), refused, single_service(tmp_path):
        pass


def test_a_folder_is_free_again_after_its_service(tmp_path):
    with single_service(tmp_path):
        pass

    said: list[str] = []
    with single_service(tmp_path):
        wait_until_unused(tmp_path, seconds=0, say=said.append)

    assert said == []
