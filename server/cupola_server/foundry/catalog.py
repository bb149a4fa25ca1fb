"""GET /foundry/list and GET /openai/models: what there is for this machine, and what is on it."""

import msgspec

from cupola.catalog import PromptTemplate
from cupola.frontend import EngineView, ModelInfo
from cupola_server.foundry.schema import CatalogModel, Parameter, PromptParts, RecommendedSettings, Runtime
from cupola_server.openai.exchange import Exchange

_MEBIBYTE = 1 << 20
_PROVIDER_TYPES = {"azure": "AzureFoundry", "local": "Local"}


class CatalogListing:
    """Lists models in the words of dialect A."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    async def catalog(self, exchange: Exchange) -> None:
        """List what this machine can run, the best variant of an alias first: SDKs rely on the order.

        They also take any entry for CUDA as a sign that there is CUDA here.
        """
        places = {(device.provider, device.type) for device in self._engine.devices()}
        models = [
            described(status.info)
            for status in await self._engine.models()
            if status.loaded or (status.info.provider, status.info.device) in places
        ]
        await exchange.reply(200, msgspec.json.encode(models))

    async def ready(self, exchange: Exchange) -> None:
        """List the ids of what can be used without a download."""
        ids = [status.info.id for status in await self._engine.models() if status.cached or status.loaded]
        await exchange.reply(200, msgspec.json.encode(ids))


def described(info: ModelInfo) -> CatalogModel:
    """Describe a variant as the catalog of dialect A does."""
    return CatalogModel(
        name=info.id,
        display_name=info.display_name or info.name,
        provider_type=_PROVIDER_TYPES.get(info.source, info.source),
        uri=info.uri or f"{info.source}://{info.name}",
        version=str(info.version),
        model_type=info.model_type,
        prompt_template=_parts(info.prompt_template),
        publisher=info.publisher,
        task=info.task,
        test_model=info.is_test,
        runtime=Runtime(device_type=info.device, execution_provider=info.provider),
        file_size_mb=info.size_bytes // _MEBIBYTE,
        model_settings=RecommendedSettings(
            parameters=tuple(Parameter(name=name, value=value) for name, value in info.model_settings)
        ),
        alias=info.alias,
        supports_tool_calling=info.supports_tool_calling,
        license=info.license,
        license_description=info.license_description,
        parent_model_uri=info.parent_uri,
        max_output_tokens=info.max_output_tokens,
        min_fl_version=info.min_version or None,
    )


def _parts(template: PromptTemplate | None) -> PromptParts | None:
    if template is None:
        return None
    return PromptParts(system=template.system, user=template.user, assistant=template.assistant, prompt=template.prompt)
