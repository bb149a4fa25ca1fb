"""Pages of what went into a response."""

from collections.abc import Sequence

from cupola_server.openai.errors import FieldError
from cupola_server.openai.responses.items import Item
from cupola_server.openai.responses.response import ItemList
from cupola_server.openai.responses.schema import InputItemsQuery


def page(items: Sequence[Item], query: InputItemsQuery) -> ItemList:
    """Return the page that is asked for.

    Raises:
        FieldError: `after` names no item.
    """
    ordered = items if query.order == "asc" else items[::-1]
    start = 0
    if query.after is not None:
        ids = [item.id for item in ordered]
        if query.after not in ids:
            detail = f"'after' is '{query.after[:80]}', but no input item of this response has that id."
            raise FieldError(param="after", code="invalid_value", detail=detail)
        start = ids.index(query.after) + 1
    shown = tuple(ordered[start : start + query.limit])
    return ItemList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=start + query.limit < len(ordered),
    )
