"""A model that is named by its hub id keeps what a model in a folder keeps: packed weights, forms, experience."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models import tiny
from worker.model_files import folder_of
from worker.offload import folder_identity

ROOT = Path(__file__).parents[3]
COMMIT, LATER = "a" * 40, "b" * 40
#: As the worker starts; the identity is what everything that is kept is kept under.
START = """
import json, sys
from pathlib import Path
from core.settings import Settings
from worker import pipeline
from worker.model_files import fetch, folder_of

settings = Settings.from_env()
pipeline.import_ahead(settings)
model = pipeline.load_model(settings)
told = {"fetched": str(fetch(type(model.pipe), settings.model))}
Path(sys.argv[1]).write_text(sys.argv[2])  # meanwhile somebody else downloads a newer revision
engine = pipeline.make_engine(settings, model)
told |= {"kind": type(model.pipe).__name__, "folder": str(folder_of(settings.model))}
told["identity"] = engine._engine._options.identity
engine.close()
print(json.dumps(told))
"""


def put_in_cache(hub: Path, commit: str, files: Path) -> Path:
    """A revision as the hub's client leaves it: links to blobs, and a reference that names the newest one."""
    model = hub / "models--acme--tiny"
    snapshot = model / "snapshots" / commit
    for file in (path for path in sorted(files.rglob("*")) if path.is_file()):
        blob = model / "blobs" / f"{commit[:8]}-{'-'.join(file.relative_to(files).parts)}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, blob)
        link = snapshot / file.relative_to(files)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text(commit)
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of this process and its children, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def start(hub: Path, data: Path) -> dict[str, str]:
    environ = {**os.environ, "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "ZIMG_MODEL": "acme/tiny"}
    environ |= {"ZIMG_DATA_DIR": str(data), "ZIMG_CPU_DTYPE": "float32", "ZIMG_COMPILE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", START, str(hub / "models--acme--tiny" / "refs" / "main"), LATER],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_model_of_the_hub_is_known_by_the_files_that_were_loaded(tmp_path: Path, cache: Path) -> None:
    tiny.save(tmp_path / "files")
    newer = put_in_cache(cache, LATER, tmp_path / "files")
    (cache / "models--acme--tiny" / "blobs" / f"{LATER[:8]}-vae-config.json").touch()
    older = put_in_cache(cache, COMMIT, tmp_path / "files")
    assert folder_of("acme/tiny") == older

    told = start(cache, tmp_path)

    assert (told["kind"], told["fetched"]) == ("ZImagePipeline", str(older))
    assert told["folder"] == str(newer), "which is now the newest"
    assert told["identity"] == folder_identity(older) != folder_identity(newer)


@pytest.mark.parametrize("model", ["acme/never-downloaded", "/no/such/folder", "not a repository's name!"])
@pytest.mark.usefixtures("cache")
def test_what_is_not_here_has_no_folder(model: str) -> None:
    assert folder_of(model) is None


def test_a_folder_is_its_own(tmp_path: Path) -> None:
    assert folder_of(str(tmp_path)) == tmp_path
