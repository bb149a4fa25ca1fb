"""Catalogs that are asked over the network."""

from typing import Annotated, Literal

from msgspec import Meta, field

from cupola.settings.section import Name, Seconds, Section


class FoundryCatalogSettings(Section, frozen=True, kw_only=True):
    """A catalog that speaks the protocol of Azure AI Foundry. What is empty means Azure's own.

    Attributes:
        protocol: "v2" is the asset gallery, "v1" the entities index that it replaced.
        catalog_url: Where to list, the full address. May hold "{region}".
        registry_url: Where to ask for a model's files, the full address. May hold "{region}".
        region: Such as "westeurope"; empty detects it.
        region_fallback: Whether to try neighbouring regions when one does not answer.
        deployment_options: v2 lists models that are offered for one of these.
        tags: v1 lists models whose tag `foundryLocal` is one of these; "test" has the test models.
        devices: What to list models for, such as "GPU:CUDAExecutionProvider"; empty means the devices of this machine.
        refresh_s: Age from which on a listing is asked for anew.
        timeout_s: How long the network may take before the remembered listing has to do.
    """

    protocol: Literal["v1", "v2"] = "v2"
    catalog_url: str = ""
    registry_url: str = ""
    region: str = ""
    region_fallback: bool = True
    deployment_options: tuple[str, ...] = ("Foundry Local on Devices",)
    tags: tuple[str, ...] = ("",)
    devices: tuple[Annotated[str, Meta(pattern=r"^(CPU|GPU|NPU):\w+$")], ...] = ()
    refresh_s: Seconds = 4 * 3600.0
    timeout_s: Seconds = 15.0


class AzureSettings(FoundryCatalogSettings, frozen=True, kw_only=True):
    """Azure AI Foundry's catalog, and private ones and mirrors beside it.

    Attributes:
        enabled: Whether to list Azure's models. Off, because a listing then asks a server for news every few hours.
        private: More catalogs, by name: `[azure.private.NAME]`. Each is used because it is there, enabled or not, and
            what it lists comes before what Azure lists under the same id.
    """

    enabled: bool = False
    private: dict[Name, FoundryCatalogSettings] = field(default_factory=dict)
