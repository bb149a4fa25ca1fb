"""Azure's regions: which one is ours, and which to try when it does not answer."""

import re

DEFAULT_REGION = "centralus"
PLACEHOLDER = "{region}"

# Those of one row are neighbours. Every region has a copy of the public registry.
_NEIGHBOURS = (
    ("centralus", "eastus", "eastus2", "southcentralus", "northcentralus", "westus2", "westus", "westus3"),
    ("westeurope", "northeurope", "uksouth", "francecentral", "germanywestcentral", "swedencentral", "italynorth"),
    ("southeastasia", "eastasia", "japaneast", "koreacentral", "australiaeast", "centralindia", "southindia"),
)
_FARTHER = ("centralus", "eastus", "westeurope", "southeastasia")
_MOST_NEIGHBOURS = 3
_CLUSTER = re.compile(r"vienna-([a-z0-9]+)-\d+", re.IGNORECASE)


def region_of_cluster(header: str) -> str:
    """Return "eastus" for the header `azureml-served-by-cluster: vienna-eastus-01`, "" if it says something else."""
    match = _CLUSTER.search(header)
    return match[1].lower() if match else ""


def regions_to_try(region: str) -> list[str]:
    """Return the region, its neighbours, then one of every other part of the world."""
    row = next((row for row in _NEIGHBOURS if region in row), ())
    neighbours = [other for other in row if other != region][:_MOST_NEIGHBOURS]
    return list(dict.fromkeys([region, *neighbours, *_FARTHER]))


def addresses(template: str, region: str, *, fallback: bool) -> list[str]:
    """Fill an address in, for every region worth trying; an address without a place for regions is the only one."""
    if PLACEHOLDER not in template:
        return [template]
    regions = regions_to_try(region or DEFAULT_REGION)
    return [template.replace(PLACEHOLDER, each) for each in (regions if fallback else regions[:1])]
