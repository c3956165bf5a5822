"""openai 2.x and litellm, each the real package, in an environment of their own."""

import json
import os
import subprocess
import sys

import httpx
import pytest

from tests.integration.api.conftest import ROOT, use_up

ENVIRONMENT = ROOT / "build" / "clients"
REQUIREMENTS = ROOT / "requirements" / "clients.txt"
BUILD_SECONDS = 280


@pytest.fixture(scope="session")
def other_python():
    """The interpreter of that environment; built where tools are required, else the test is skipped by name."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "built"
    if not stamp.is_file() or stamp.read_text() != REQUIREMENTS.read_text():
        if os.environ.get("ZIMG_REQUIRE_TOOLS") != "1":
            pytest.skip("build/clients is not built (ZIMG_REQUIRE_TOOLS=1 builds it)")
        # Our own pip installs there, and compiles nothing: most of its modules are never imported.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)], check=True, timeout=60)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "install", "-q", "--no-compile", "-r", str(REQUIREMENTS)], check=True, timeout=BUILD_SECONDS
        )
        stamp.write_text(REQUIREMENTS.read_text())
    return str(python)


#: Carries out one piece of code after the other: to import litellm takes longer than all that the tests ask of it.
CONSOLE = """
import contextlib, io, json, os, sys, traceback
for line in sys.stdin:
    code, os.environ["URL"] = json.loads(line)
    said, error = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            exec(code, {"__name__": "__main__"})
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps([said.getvalue(), error]), flush=True)
"""


@pytest.fixture(scope="module")
def console(other_python):
    """A process of that interpreter."""
    environ = {**os.environ, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    process = subprocess.Popen(
        [other_python, "-c", CONSOLE], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process


def run(console, code, url):
    """What `code` prints last, as JSON, run by the other interpreter."""
    console.stdin.write(json.dumps([code, url]) + "\n")
    console.stdin.flush()
    said, error = json.loads(console.stdout.readline())
    assert not error, error[-3000:]
    return json.loads(said.splitlines()[-1])


OPENAI_2 = """
import json, os, openai
client = openai.OpenAI(base_url=os.environ["URL"] + "/v1", api_key="none", max_retries=0)
made = client.images.generate(model="m", prompt="a red mug", size="256x256")
coded = client.images.generate(model="m", prompt="a red mug", size="256x256", response_format="b64_json")
streamed = [event.type for event in client.images.generate(model="m", prompt="a", size="256x256", stream=True)]
try:
    client.images.generate(model="m", prompt="")
except openai.BadRequestError as error:
    refused = [error.code, error.param]
print(json.dumps({"version": openai.__version__, "url": made.data[0].url, "b64": len(coded.data[0].b64_json),
                  "streamed": streamed, "refused": refused, "models": [model.id for model in client.models.list()]}))
"""

LITELLM = """
import json, os, litellm
litellm.suppress_debug_info = True
where = {"api_base": os.environ["URL"] + "/v1", "api_key": "none", "model": "openai/z-image-turbo"}
made = litellm.image_generation(prompt="a red mug", size="256x256", **where)
try:
    litellm.image_generation(prompt="", max_retries=0, **where)
except litellm.BadRequestError as error:
    refused = type(error).__name__
print(json.dumps({"url": made.data[0].url, "refused": refused}))
"""

OVER_LIMIT = """
import json, os, litellm
litellm.suppress_debug_info = True
try:
    where = {"api_base": os.environ["URL"] + "/v1", "api_key": "none", "model": "openai/z-image-turbo"}
    litellm.image_generation(prompt="a", max_retries=0, **where)
except litellm.RateLimitError as error:
    print(json.dumps({"refused": type(error).__name__}))
"""


def test_openai_2_generates_streams_and_raises(console, live, worker):
    with worker.at_work():
        answer = run(console, OPENAI_2, live.url)

    assert answer["version"].startswith("2.")
    assert httpx.get(answer["url"], timeout=20).headers["Content-Type"] == "image/png"
    assert answer["b64"] > 100
    assert answer["streamed"] == ["image_generation.completed"]
    assert answer["refused"] == ["empty_prompt", "prompt"]
    assert answer["models"] == ["z-image-turbo"]


def test_litellm_generates_and_raises_its_own_errors(console, live, worker):
    with worker.at_work():
        answer = run(console, LITELLM, live.url)

    assert httpx.get(answer["url"], timeout=20).headers["Content-Type"] == "image/png"
    assert answer["refused"] == "BadRequestError"


def test_litellm_knows_a_used_up_quota(console, live, worker, parts):
    use_up(parts)

    assert run(console, OVER_LIMIT, live.url) == {"refused": "RateLimitError"}
