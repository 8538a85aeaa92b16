"""The image under test: built from this checkout when it is not there yet, shared by all tests of a run.

Without Docker these tests are skipped; where ``CI`` is set, they fail instead.
"""

import os
import subprocess

import pytest

from tests.image.engine import BUILD_PATIENCE, IMAGE, ROOT, reachable, run


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips, or fails in CI, when no Docker engine answers."""
    if reachable():
        return
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail("no Docker engine answers `docker info`; tests of the image must run in CI (.ci/run starts one)")
    pytest.skip("no Docker engine answers `docker info`")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """Name of the image: ``CLAWLAMA_TEST_IMAGE``, or ``clawlama:test``, which is built if it is not there."""
    name = os.environ.get("CLAWLAMA_TEST_IMAGE", IMAGE)
    if run("image", "inspect", name).returncode:
        command = [str(ROOT / "scripts" / "build.sh"), "--ci"]
        subprocess.run(command, cwd=ROOT, check=True, timeout=BUILD_PATIENCE, env={**os.environ, "CI_IMAGE": name})
    return name
