"""When a model elsewhere is meant, and when one takes the place of a model that cannot run here."""

import logging
from collections.abc import Awaitable, Callable

from cupola.errors import CupolaError, ModelNotFoundError
from cupola.external.models import ExternalModel, ExternalModels

logger = logging.getLogger(__name__)


class ExternalRouter:
    """The rules by which requests leave this machine.

    Args:
        models: The models elsewhere.
        is_loaded: Finds a loaded model of this machine.
        variants: Finds the models of this machine and its catalogs; raises `ModelNotFoundError`.
        fallback: The model that stands in; empty for none.
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
        """Find the model that a name means, if it is elsewhere.

        A name with its service always does. A bare one only where no model of this machine and its catalogs is called
        so: registering a service must not draw away what is meant for this machine.
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
        """Raise a `RequestError` if a name means a model elsewhere, for what only one that is here can do."""
        if model := await self.find(name):
            raise model.refusal()

    def fallback(self, name: str, error: CupolaError) -> str:
        """Return the model that takes the place of one which cannot run here; without one, raise why it cannot."""
        if not self._fallback or self._fallback.lower() == name.lower():
            raise error
        logger.warning("%s Its requests go to %s.", error, self._fallback)
        return self._fallback
