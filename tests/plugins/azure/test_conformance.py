"""What every catalog source must do, done by this one."""

import pytest

from azure_stand_in import AzureStandIn, Variant
from cupola.testing import CatalogSourceSuite

pytestmark = pytest.mark.anyio


class TestAzure(CatalogSourceSuite):
    fetches = True

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request):
        return request.param

    @pytest.fixture(params=["v1", "v2"])
    def source(self, request, catalog_of):
        files = {"v3/genai_config.json": b"{}", "v3/model.onnx": b"graph" * 1000}
        models = [
            Variant("x-generic-cpu", files=files),
            Variant("X-generic-cpu"),
            Variant("y-generic-cpu", files=files),
        ]
        with AzureStandIn(*models) as azure:
            yield catalog_of(azure, request.param)
