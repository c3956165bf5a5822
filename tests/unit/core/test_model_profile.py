"""Which models a service has, and which of them a worker serves."""

import json

import pytest

from core.errors import ConfigurationError
from core.model_profile import further_profiles, queue_of
from core.settings import Settings


@pytest.fixture
def folder(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        sides = {"square": [512, 512], "portrait": [384, 512], "landscape": [512, 384]}
        (tmp_path / name / "zimg.json").write_text(json.dumps({"id": name, "revision": "1", **sides}))
        return str(tmp_path / name)

    return make


def test_a_worker_of_a_further_model_has_a_queue_of_its_own_and_any_other_has_the_default_one(folder):
    painter, sketcher = folder("painter"), folder("sketcher")

    assert queue_of(Settings(model=painter, models=(painter,))) == "painter"
    assert queue_of(Settings(model=sketcher, models=(painter,))) == ""
    assert queue_of(Settings(model=painter)) == ""


def test_models_of_one_id_or_with_an_impossible_one_stop_the_start(folder):
    with pytest.raises(ConfigurationError, match="ZIMG_MODELS"):
        further_profiles(Settings(models=("a/hub-id", "another/hub-id")))
    with pytest.raises(ConfigurationError, match="id of its own"):
        further_profiles(Settings(models=(folder("my model"),)))


def test_the_list_is_read_from_the_environment():
    assert Settings.from_env({"ZIMG_MODELS": "a, b"}).models == ("a", "b")
