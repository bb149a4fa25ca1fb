"""Operations of front-ends, from which both the routing and the OpenAPI document are made."""

from cupola_server.openapi.document import document
from cupola_server.openapi.routes import Api, Operation

__all__ = ["Api", "Operation", "document"]
