"""Answers the two protocols of the catalog, applying the filters of the request to the records."""

import base64
import json
from dataclasses import dataclass

from azure_stand_in.variants import Variant


@dataclass
class Catalog:
    """Variants, and raw records that are listed whatever is asked for.

    Attributes:
        form: "entity" or "summary", of v2's answers.
        paging: "token", "skip", or "loop" for a service that never gets to an end.
        raw: Records as they stand.
        page_size: Overrules what the client wants; 0 does not.
    """

    variants: list
    form: str = "entity"
    paging: str = "token"
    page_size: int = 0

    def __post_init__(self):
        self.raw = []
        self._found = {}

    def gallery(self, request):
        """v2."""
        page, following = self._page(request, request.get("continuationToken"), 0)
        key = "summaries" if self.form == "summary" else "value"
        records = [self._record(item) for item in page]
        return {"totalCount": len(page), key: records, "continuationToken": following or None}

    def index(self, request):
        """v1."""
        request = request["indexEntitiesRequest"]
        skip = request.get("skip") or 0
        page, following = self._page(request, request.get("continuationToken"), skip)
        token = following if self.paging != "skip" else ""
        next_skip = skip + len(page) if following and self.paging == "skip" else 0
        values = [item if isinstance(item, dict) else item.entity() for item in page]
        inner = {"totalCount": len(page), "value": values, "nextSkip": next_skip, "continuationToken": token}
        return {"indexEntitiesResponse": inner}

    def _page(self, request, token, skip):
        found = self._matching(request["filters"])
        start = int(base64.b64decode(token)) if token else skip
        size = self.page_size or request["pageSize"]
        end = 0 if self.paging == "loop" else start + size
        following = base64.b64encode(str(end).encode()).decode() if end < len(found) else ""
        return found[start : start + size], following

    def _matching(self, filters):
        key = json.dumps(filters), len(self.variants), len(self.raw)
        if key not in self._found:
            listed = [item for item in self.variants if all(_passes(item.entity(), each) for each in filters)]
            self._found[key] = [*self.raw, *listed]
        return self._found[key]

    def _record(self, item):
        if not isinstance(item, Variant):
            return item
        return item.summary() if self.form == "summary" else item.entity()


def _passes(entity, condition):
    value = entity
    for part in condition["field"].split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    held = {str(each).lower() for each in (value if isinstance(value, list) else [value]) if each is not None}
    wanted = {each.lower() for each in condition["values"]}
    return {"eq": bool(held & wanted), "NotEquals": not held & wanted}[condition["operator"]]
