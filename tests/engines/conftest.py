import pytest

from tests.engines.models import Trained, trained


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("model"))
