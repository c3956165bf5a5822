"""How many workers the local service starts, and on which cards."""

import os

import pytest

from core.errors import ConfigurationError
from core.settings import Settings
from deploy.local.cards import visible_cards
from deploy.local.control import ProgramState
from deploy.local.keeper import Keeper, ProgressWatch
from deploy.local.plan import make_programs
from scheduler.health import PROGRESS_FILE
from tests.unit.deploy.test_plan import KEYS, PORTS

FOUR = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]


def cards(environ, there=FOUR):
    return visible_cards(environ, lambda: there)


def test_every_visible_card_gets_a_worker():
    assert cards({}) == FOUR
    assert cards({"CUDA_VISIBLE_DEVICES": "2,GPU-b, 0"}) == ["2", "GPU-b", "0"]
    assert cards({"CUDA_VISIBLE_DEVICES": "1,-1,0"}) == ["1"]


def test_fewer_are_used_where_it_is_said():
    assert cards({"ZIMG_GPUS": "2"}) == ["GPU-a", "GPU-b"]
    assert cards({"ZIMG_GPUS": "1", "CUDA_VISIBLE_DEVICES": "3,2"}) == ["3"]


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_device_that_is_named_leaves_no_choice(device):
    assert cards({"ZIMG_DEVICE": device}) == []


def test_without_a_card_there_is_one_worker_all_the_same():
    assert cards({}, []) == []
    assert cards({"ZIMG_GPUS": "1"}, []) == []


@pytest.mark.parametrize("wanted", ["5", "two", "-1"])
def test_a_number_that_can_not_be_stops_the_start_with_a_sentence(wanted):
    with pytest.raises(ConfigurationError, match="ZIMG_GPUS"):
        cards({"ZIMG_GPUS": wanted})


def workers(tmp_path, found):
    programs = make_programs(Settings(data_dir=tmp_path), {}, PORTS, KEYS, found)
    return {program.name: program for program in programs if "worker" in program.command}, programs


@pytest.mark.parametrize("found", [[], ["GPU-a"]])
def test_one_worker_is_left_as_it_is(tmp_path, found):
    made, _ = workers(tmp_path, found)

    assert list(made) == ["worker"]
    assert "CUDA_VISIBLE_DEVICES" not in made["worker"].environment


def test_several_workers_see_a_card_each_and_have_a_progress_file_each(tmp_path):
    made, programs = workers(tmp_path, FOUR)

    assert list(made) == ["worker", "worker-1", "worker-2", "worker-3"]
    assert [program.environment["CUDA_VISIBLE_DEVICES"] for program in made.values()] == FOUR
    files = [program.environment["ZIMG_PROGRESS_FILE"] for program in made.values()]
    assert len(set(files)) == 4
    keeper = next(program for program in programs if program.name == "keeper")
    assert keeper.command[-5:] == [str(tmp_path / PROGRESS_FILE), *files]


class Control:
    """A supervisord that runs two workers."""

    def __init__(self):
        self.killed = []

    def states(self):
        names = ("worker", "worker-1")
        return {name: ProgramState(name=name, group="services-group", state="RUNNING", pid=number + 10, started=0)
                for number, name in enumerate(names)}  # fmt: skip

    def kill(self, program):
        self.killed.append(program.name)


def test_the_keeper_kills_the_worker_that_hangs_and_not_its_neighbour(tmp_path):
    control, files = Control(), [tmp_path / "worker.progress", tmp_path / "worker-1.progress"]
    keeper = Keeper(control, {file: ProgressWatch(stale_seconds=60) for file in files})
    for second in range(0, 200, 5):
        files[0].touch()
        os.utime(files[0], ns=(second, second))
        if second < 20:
            files[1].touch()
            os.utime(files[1], ns=(second, second))
        keeper.tick(float(second))

    assert set(control.killed) == {"worker-1"}
