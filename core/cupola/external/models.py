"""External models: their names, requests to them, and when a request is routed to one."""

import logging
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from cupola.contracts import ModelInfo, ModelStatus, ResidentStatus
from cupola.errors import CupolaError, ExternalServiceError, ModelNotFoundError, RequestError
from cupola.external.requests import path_and_body
from cupola.external.service import ExternalService
from cupola.external.stream import ExternalStream
from cupola.messages import Embeddings, EmbedRequest, GenerateRequest, SessionReport
from cupola.settings import ExternalSettings

EXTERNAL = "external"
"""The source and the session kind of external models."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MAX_REGISTERED = 256
logger = logging.getLogger(__name__)


class ExternalModel:
    """A model of an external service.

    Attributes:
        info: Its description. The id is SERVICE/MODEL, which no local model can have.
        report: Its session, in the form of loaded models.
    """

    def __init__(self, service: ExternalService, model: str) -> None:
        self._service, self._model = service, model
        self.info = ModelInfo(
            id=f"{service.name}/{model}",
            alias=model,
            source=EXTERNAL,
            publisher=service.name,
            display_name=model,
            provider="External",
            uri=service.settings.base_url,
            model_type="external",
        )
        self.report = SessionReport(EXTERNAL, f"it runs on the service {service.name!r}", 1, 0, 0, "External", 0.0, 0)

    @property
    def status(self) -> ModelStatus:
        """Its status: not cached, but always loaded."""
        return ModelStatus(self.info, cached=False, loaded=True)

    @property
    def resident(self) -> ResidentStatus:
        """Its status as a loaded model."""
        return ResidentStatus(self.info, self.report, pid=0, turns=0, ttl_s=None, expires_in_s=None)

    @asynccontextmanager
    async def answer(self, request: GenerateRequest) -> AsyncIterator[ExternalStream]:
        """Send a request. Entering waits until the response starts; leaving early cancels it.

        Raises:
            RequestError: The service rejects the request.
            ExternalServiceError: The service cannot be reached, or fails.
        """
        path, body = path_and_body(request, self._model, self._service.settings.max_tokens_field)
        async with self._service.post(path, body) as response:
            if "event-stream" not in response.headers.get("content-type", ""):
                detail = "it did not stream its response, which is required"
                raise ExternalServiceError(service=self._service.name, detail=detail)
            yield ExternalStream(self._service, response)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Request embedding vectors. Raises the same errors as `answer`."""
        body: dict[str, object] = {"model": self._model, "input": list(request.inputs), "encoding_format": "float"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        async with self._service.post("/embeddings", body) as response:
            with self._service.converted_errors():
                data = await response.aread()
        try:
            reply = msgspec.json.decode(data, type=_Vectors)
        except msgspec.DecodeError:
            raise ExternalServiceError(service=self._service.name, detail="its response contains no vectors") from None
        vectors = [entry.embedding for entry in sorted(reply.data, key=lambda entry: entry.index)]
        if len(vectors) != len(request.inputs):
            raise ExternalServiceError(
                service=self._service.name, detail="its response contains a wrong number of vectors"
            )
        packed = tuple(struct.pack(f"<{len(vector)}f", *vector) for vector in vectors)
        return Embeddings(packed, reply.usage.prompt_tokens)

    def refusal(self) -> RequestError:
        """Create the error for operations that need a local model."""
        return RequestError(
            detail=f"{self.info.id!r} is an external model: its files and its tokenizer are not available."
        )


class ExternalModels:
    """All external models. Leaving this async context closes the connections.

    Args:
        services: The services of the settings, by name.

    Raises:
        SettingsError: A key would be sent unencrypted.
    """

    def __init__(self, services: Mapping[str, ExternalSettings]) -> None:
        self._settings = services
        self._services: list[ExternalService] = []
        self._models: dict[str, ExternalModel] = {}
        self.key_variables = frozenset(settings.api_key_env for settings in services.values() if settings.api_key_env)
        for name, settings in services.items():
            service = self._service(name, settings)
            for model in settings.models:
                self._add(ExternalModel(service, model))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self._services:
            await service.close()

    def __iter__(self) -> Iterator[ExternalModel]:
        return iter(self._models.values())

    def by_id(self, name: str) -> ExternalModel | None:
        """Find a model by SERVICE/MODEL, ignoring case."""
        return self._models.get(name.strip().lower())

    def by_alias(self, name: str) -> ExternalModel | None:
        """Find the first model with this name at its service, ignoring case."""
        wanted = name.strip().lower()
        return next((model for model in self if model.info.alias.lower() == wanted), None)

    def register(self, service: str, model: str, base_url: str) -> ExternalModel:
        """Add a model until the process ends. Only services of the settings, with the same URL, get a key.

        Raises:
            RequestError: The name or the URL is invalid.
        """
        name = service.strip().lower()
        if not _NAME.fullmatch(name) or not model.strip():
            raise RequestError(
                detail=f"{service[:80]!r} is not a valid name of a service. Use letters, digits, '-' and '_'."
            )
        if max(len(self._models), len(self._services)) >= _MAX_REGISTERED:
            raise RequestError(detail=f"The limit of {_MAX_REGISTERED} external models is reached.")
        known = self._settings.get(name)
        if known is not None and known.base_url.rstrip("/") != base_url.rstrip("/"):
            raise RequestError(detail=f"The settings define {name!r} with another URL. Choose another name.")
        if known is None:
            try:
                known = msgspec.convert({"base_url": base_url}, ExternalSettings)
            except msgspec.ValidationError:
                raise RequestError(detail=f"{base_url[:80]!r} is not a valid URL of a service.") from None
        return self._add(ExternalModel(self._service(name, known), model.strip()))

    def _service(self, name: str, settings: ExternalSettings) -> ExternalService:
        for service in self._services:
            if (service.name, service.settings) == (name, settings):
                return service
        self._services.append(ExternalService(name, settings))
        return self._services[-1]

    def _add(self, model: ExternalModel) -> ExternalModel:
        self._models[model.info.id.lower()] = model
        return model


class ExternalRouter:
    """Decides which requests go to external models.

    Args:
        models: The external models.
        is_loaded: Finds a loaded local model by name.
        variants: Finds local models and those of catalogs by name; raises `ModelNotFoundError`.
        fallback: The name of the fallback model; empty for none.
    """

    def __init__(
        self,
        models: ExternalModels,
        is_loaded: Callable[[str], object],
        variants: Callable[[str], Awaitable[object]],
        fallback: str,
    ) -> None:
        self.models = models
        self._is_loaded, self._variants = is_loaded, variants
        self._fallback = fallback

    async def find(self, name: str) -> ExternalModel | None:
        """Return the external model that a name refers to; None if it refers to a local model.

        SERVICE/MODEL always refers to an external model. A name without service does so only if no local model or
        catalog has it, so that registering a service never redirects requests for local models.
        """
        if (model := self.models.by_id(name)) or not (model := self.models.by_alias(name)):
            return model
        if self._is_loaded(name):
            return None
        try:
            await self._variants(name)
        except ModelNotFoundError:
            return model
        return None

    async def refuse(self, name: str) -> None:
        """Raise a `RequestError` if a name refers to an external model, for operations on local models."""
        if model := await self.find(name):
            raise model.refusal()

    def fallback(self, name: str, error: CupolaError) -> str:
        """Return the fallback for a model that cannot run on this machine; without one, raise the error."""
        if not self._fallback or self._fallback.lower() == name.lower():
            raise error
        logger.warning("%s Its requests go to %s instead.", error, self._fallback)
        return self._fallback


class _Vector(Struct, frozen=True):
    embedding: list[float]
    index: int = 0


class _VectorUsage(Struct, frozen=True):
    prompt_tokens: int = 0


class _Vectors(Struct, frozen=True):
    data: list[_Vector]
    usage: _VectorUsage = _VectorUsage()
