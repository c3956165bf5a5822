"""A worker that others restart (`ZIMG_WORKER_RESTARTS=0`) imports as a warm parent: leanly, before it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: The real start up to the moment at which Celery would take over.
STAND_IN = """
import sys
reads = []
sys.addaudithook(lambda event, args: reads.append(str(args[0])) if event == "open" else None)
from worker import __main__ as worker_main

def say():
    print("diffusers.pipelines.z_image.pipeline_z_image" in sys.modules)
    print(sum("modeling_bert.py" in path for path in reads))

worker_main.work = say
sys.exit(worker_main.main())
"""


def test_a_worker_without_a_warm_parent_has_its_models_classes_imported_leanly_before_it_works(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "ZImagePipeline", "text_encoder": ["transformers", "Qwen3Model"]}'
    )
    environ = {**os.environ, "ZIMG_WORKER_RESTARTS": "0", "ZIMG_MODEL": str(tmp_path), "ZIMG_LOG_DIR": str(tmp_path)}
    command = [sys.executable, "-c", STAND_IN]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "1"]
