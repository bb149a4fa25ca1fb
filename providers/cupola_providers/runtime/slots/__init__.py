"""The `slots` session: continuous batching on plain ONNX Runtime, for models with GroupQueryAttention.

`graph` inspects a model, `loading` opens and rewrites its graphs (`rewriting`), `memory` holds the KV cache, `table`
assigns its slots, `decoder` runs forward passes, `speculation` drafts tokens, `session` schedules the passes.
"""

from cupola_providers.runtime.slots.graph import SlotsGraph, slots_graph
from cupola_providers.runtime.slots.memory import SlotPlan
from cupola_providers.runtime.slots.session import SlotsSession

__all__ = ["SlotPlan", "SlotsGraph", "SlotsSession", "slots_graph"]
