"""The models of services elsewhere, and the names they go by here."""

import re
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from cupola.contracts import ModelInfo, ModelStatus, ResidentStatus
from cupola.errors import ExternalServiceError, RequestError
from cupola.external.answering import ExternalAnswer
from cupola.external.asking import path_and_body
from cupola.external.service import ExternalService
from cupola.messages import Embeddings, EmbedRequest, GenerateRequest, SessionReport
from cupola.settings import ExternalSettings

EXTERNAL = "external"
"""The source and the kind of session of such models."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MOST_REGISTERED = 256


class _Vector(Struct, frozen=True):
    embedding: list[float]
    index: int = 0


class _VectorUsage(Struct, frozen=True):
    prompt_tokens: int = 0


class _Vectors(Struct, frozen=True):
    data: list[_Vector]
    usage: _VectorUsage = _VectorUsage()


class ExternalModel:
    """One model of a service elsewhere.

    Attributes:
        info: How it is listed. The id is SERVICE/MODEL, which no model of this machine can be called.
        report: What answers, in the words of loaded models.
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
        self.report = SessionReport(EXTERNAL, f"it runs at the service {service.name!r}", 1, 0, 0, "External", 0.0, 0)

    @property
    def status(self) -> ModelStatus:
        """It has no files here, and answers without loading."""
        return ModelStatus(self.info, cached=False, loaded=True)

    @property
    def resident(self) -> ResidentStatus:
        """What loading it comes to."""
        return ResidentStatus(self.info, self.report, pid=0, turns=0, ttl_s=None, expires_in_s=None)

    @asynccontextmanager
    async def answer(self, request: GenerateRequest) -> AsyncIterator[ExternalAnswer]:
        """Ask the service. Entering waits until it begins to answer; leaving early ends the answer.

        Raises:
            RequestError: It refuses the request.
            ExternalServiceError: It cannot be reached, or fails.
        """
        path, body = path_and_body(request, self._model, self._service.settings.max_tokens_field)
        async with self._service.post(path, body) as response:
            if "event-stream" not in response.headers.get("content-type", ""):
                detail = "it does not stream its answers, which this service needs"
                raise ExternalServiceError(service=self._service.name, detail=detail)
            yield ExternalAnswer(self._service, response)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Ask the service for vectors. Raises as `answer` does."""
        body: dict[str, object] = {"model": self._model, "input": list(request.inputs), "encoding_format": "float"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        async with self._service.post("/embeddings", body) as response:
            with self._service.explained():
                data = await response.aread()
        try:
            reply = msgspec.json.decode(data, type=_Vectors)
        except msgspec.DecodeError:
            raise ExternalServiceError(service=self._service.name, detail="it sent no vectors") from None
        vectors = [one.embedding for one in sorted(reply.data, key=lambda one: one.index)]
        if len(vectors) != len(request.inputs):
            raise ExternalServiceError(service=self._service.name, detail="it sent too few vectors, or too many")
        packed = tuple(struct.pack(f"<{len(vector)}f", *vector) for vector in vectors)
        return Embeddings(packed, reply.usage.prompt_tokens)

    def refusal(self) -> RequestError:
        """Return the error for what needs a model that is here: its tokens, its files."""
        return RequestError(detail=f"{self.info.id!r} runs elsewhere: it has no files here, nor are its tokens known.")


class ExternalModels:
    """All of them. An async context; leaving it closes the connections.

    Args:
        services: From the settings, by name.

    Raises:
        SettingsError: A key would travel in the clear.
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
        """Find one by SERVICE/MODEL, whatever the case."""
        return self._models.get(name.strip().lower())

    def by_alias(self, name: str) -> ExternalModel | None:
        """Find the first by what its service calls it, whatever the case."""
        wanted = name.strip().lower()
        return next((model for model in self if model.info.alias.lower() == wanted), None)

    def register(self, service: str, model: str, base_url: str) -> ExternalModel:
        """Offer a model until the process ends. Only a service of the settings, at its address there, gets a key.

        Raises:
            RequestError: The name or the address is none.
        """
        name = service.strip().lower()
        if not _NAME.fullmatch(name) or not model.strip():
            raise RequestError(detail=f"{service[:80]!r} is no name for a service: letters, digits, '-' and '_'.")
        if max(len(self._models), len(self._services)) >= _MOST_REGISTERED:
            raise RequestError(detail=f"There are {_MOST_REGISTERED} models of other services already.")
        known = self._settings.get(name)
        if known is not None and known.base_url.rstrip("/") != base_url.rstrip("/"):
            raise RequestError(detail=f"The settings know {name!r} at another address; choose another name.")
        if known is None:
            try:
                known = msgspec.convert({"base_url": base_url}, ExternalSettings)
            except msgspec.ValidationError:
                raise RequestError(detail=f"{base_url[:80]!r} is no address of a service.") from None
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
