"""From a query string to a Struct, or to an error that names the parameter."""

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from cupola_server.openai.errors import FieldError

T = TypeVar("T", bound=Struct)

_MOST_PARAMETERS = 64


def decode_query(query_string: bytes, kind: type[T]) -> T:
    """Decode a query string to a Struct of plain fields and lists.

    A list is written as a parameter that is repeated, with or without "[]" behind its name.

    Raises:
        FieldError: A parameter is unknown, given twice, missing or wrong.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, str | list[str]] = {}
    for written, value in _pairs(query_string):
        name = written.removesuffix("[]")
        if name not in fields:
            raise FieldError(param=name, code="unknown_parameter", detail=f"There is no parameter '{name[:80]}'.")
        if _is_list(fields[name].type):
            values.setdefault(name, []).append(value)  # type: ignore[union-attr]
        elif values.setdefault(name, value) != value:
            raise FieldError(param=name, code="invalid_value", detail=f"'{name}' is given more than once.")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`").partition("[")[0] or problem.rpartition("field `")[2].rstrip("`")
        raise FieldError(param=name, code="invalid_value", detail=f"Invalid value for '{name}': {problem}.") from None


def _pairs(query_string: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        detail = f"The query of the URL has more than {_MOST_PARAMETERS} parameters, or characters that do not belong."
        raise FieldError(param="query", code="invalid_value", detail=detail) from None


def _is_list(annotation: object) -> bool:
    kind = msgspec.inspect.type_info(annotation)
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    lists = (msgspec.inspect.ListType, msgspec.inspect.VarTupleType, msgspec.inspect.SetType)
    return any(isinstance(one, lists) for one in kinds)
