"""What the tests of the compiled part share."""

from collections.abc import Iterator

import pytest
import torch

from supervisor.distill.fast import kernels
from supervisor.distill.fast.kernels import NEEDS


@pytest.fixture(params=[name for name, needs in NEEDS.items() if all(map(torch.cpu.get_capabilities().get, needs))])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each build that runs here, in turn. scripts/setup makes them where there is a compiler."""
    name = str(request.param)
    if not kernels.path(name, torch.float32).exists():
        pytest.skip("no compiler was at hand when this checkout was set up")
    monkeypatch.setattr(kernels, "NEEDS", {name: NEEDS[name]})
    library = kernels.library
    library.cache_clear()
    yield name
    library.cache_clear()  # the tests that follow get this processor's own again
