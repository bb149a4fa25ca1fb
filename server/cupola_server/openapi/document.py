"""Creates the OpenAPI document from operations, with JSON schemas of their request and response types."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from cupola_server.openai.errors import ErrorBody
from cupola_server.openapi.routes import Operation

_OPENAPI = "3.2.0"  # the first version that describes server-sent events
_SCHEMAS = "#/components/schemas/{name}"
_ALWAYS = (401, 403, 421, 500, 503)
_WITH_BODY = (400, 408, 413, 415)
_END_MARK = {"const": "[DONE]", "description": "Ends streams of completions."}
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.2 document of some operations."""
    kinds = [kind for operation in operations for kind in _types(operation)]
    schemas, components = msgspec.json.schema_components(
        [ErrorBody, *kinds], ref_template=_SCHEMAS, schema_hook=_schema_of_anything
    )
    schema_of = dict(zip(map(id, [ErrorBody, *kinds]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _OperationObject(operation, schema_of).as_dict()
    return {
        "openapi": _OPENAPI,
        "info": {"title": "Cupola", "version": version("cupola"), "license": {"name": "Apache-2.0"}},
        "security": [{}, {"key": []}],  # a key is required if the service has any
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _types(operation: Operation) -> Iterable[Any]:
    kinds = (operation.request, operation.query, operation.reply, operation.events, operation.shape.body)
    return (kind for kind in kinds if kind is not None and not isinstance(kind, str))


def _schema_of_anything(kind: type) -> dict[str, Any]:
    """Describe fields of any type, which the handler refuses or checks itself."""
    if kind is object:
        return {"description": "Any JSON."}  # an empty schema would count as missing
    raise NotImplementedError


class _OperationObject:
    """The OpenAPI object of one operation."""

    def __init__(self, operation: Operation, schema_of: dict[int, dict[str, Any]]) -> None:
        self._operation, self._schema_of = operation, schema_of

    def as_dict(self) -> dict[str, Any]:
        operation = self._operation
        slug = re.sub(r"\W+", "_", _PARAMETER.sub(r"\1", operation.path)).strip("_") or "root"
        described: dict[str, Any] = {
            "operationId": f"{operation.method.lower()}_{slug}",
            "summary": operation.summary,
            "parameters": [*self._in_path(), *self._in_query()],
            "responses": {str(operation.status): self._success(), **self._failures()},
        }
        if operation.request is not None:
            content = {"application/json": {"schema": self._schema(operation.request)}}
            described["requestBody"] = {"required": True, "content": content}
        return described

    def _schema(self, kind: Any) -> dict[str, Any]:
        return self._schema_of[id(kind)]

    def _in_path(self) -> Iterable[dict[str, Any]]:
        for name in _PARAMETER.findall(self._operation.path):
            yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}

    def _in_query(self) -> Iterable[dict[str, Any]]:
        if self._operation.query is None:
            return
        for field in msgspec.structs.fields(self._operation.query):
            schema = msgspec.json.schema(field.type, schema_hook=_schema_of_anything)
            yield {"name": field.encode_name, "in": "query", "required": field.required, "schema": schema}

    def _success(self) -> dict[str, Any]:
        operation = self._operation
        content: dict[str, Any] = {}
        if isinstance(operation.reply, str):
            content[operation.reply] = {"schema": {"type": "string"}}
        else:
            content["application/json"] = {"schema": self._schema(operation.reply)}
        if operation.events is not None:
            content["text/event-stream"] = {"itemSchema": self._event()}
        return {"description": HTTPStatus(operation.status).phrase, "content": content}

    def _event(self) -> dict[str, Any]:
        """Describe a server-sent event. A stream that fails ends with an event of its own or an ErrorBody."""
        kinds = [self._schema(self._operation.events), self._schema(ErrorBody)]
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": kinds}}
        properties = {"event": {"type": "string"}, "data": {"anyOf": [_END_MARK, data]}}
        return {"type": "object", "properties": properties, "required": ["data"]}

    def _failures(self) -> dict[str, Any]:
        operation = self._operation
        statuses = {*_ALWAYS, *operation.errors}
        if operation.request is not None:
            statuses |= {*_WITH_BODY}
        if operation.query is not None:
            statuses |= {400}
        shape = operation.shape
        content = {  # the checks in front of all front-ends use OpenAI's format
            "application/json": {"schema": self._schema(ErrorBody)},
            shape.media_type: {"schema": self._schema(shape.body)},
        }
        return {str(n): {"description": HTTPStatus(n).phrase, "content": content} for n in sorted(statuses)}
