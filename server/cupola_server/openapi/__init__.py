"""The route table that front-ends fill in, and the OpenAPI document that comes from it. Called by front-ends and `app`.

A route is written once: what answers, what it reads and what it sends. Routing and `/openapi.json` both come from that.
"""

from cupola_server.openapi.document import document
from cupola_server.openapi.routes import Api, Operation

__all__ = ["Api", "Operation", "document"]
