"""The `slots` session: many turns share each forward pass over a KV cache of slots."""

import logging
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import onnxruntime as ort

from cupola import CupolaError, Limits, LoadError, ModelFiles, Session, TokenEvent, Turn, WorkerError
from cupola.errors import to_wire
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.row import Row, Rows
from cupola_providers.runtime.sampling import Logits, sample
from cupola_providers.runtime.slots.decoder import SlotDecoder
from cupola_providers.runtime.slots.graph import SlotsGraph, slots_graph
from cupola_providers.runtime.slots.memory import KvMemory
from cupola_providers.runtime.slots.packing import PASS_COST, chunk_length, packed
from cupola_providers.runtime.slots.plan import SlotPlan
from cupola_providers.runtime.slots.table import FED_AT_LEAST, SlotTable
from cupola_providers.runtime.tokenizer import GenaiTokenizer

logger = logging.getLogger(__name__)


class SlotsSession(Session):
    """Runs as many turns at once as there are slots; they join and leave between any two steps.

    A step is one forward pass: over one chunk of a prompt (or several short prompts together), or over one token of
    every turn that is past its prompt. Prompts and decoding alternate, about a chunk's time for each, so a long
    prompt holds nobody up, and half of the prompt passes go to the prompt that has least left, so short ones get in
    quickly beside a long one.

    Args:
        graph: The graph that runs.
        native: Its `onnxruntime.InferenceSession`.
        plan: Number and length of the slots.
        config: The model's configuration.
        tokenizer: The model's tokenizer.
        chunk: Most prompt tokens in one step.
        threads: Compute threads, for the report.
    """

    kind = "slots"

    def __init__(
        self,
        graph: SlotsGraph,
        native: Any,
        plan: SlotPlan,
        config: GenaiConfig,
        tokenizer: GenaiTokenizer,
        *,
        chunk: int = 128,
        threads: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self.threads = threads
        self.capacity = plan.slots
        self.context_length = plan.length
        where = "computes logits only where asked" if graph.picks_logits else "computes logits for every token"
        self.reason = (
            f"its attention is GroupQueryAttention with a cache that turns can share; {graph.path.name} {where}"
        )
        self._rows = Rows(config, tokenizer, vocab_size=graph.vocab_size, context_length=plan.length)
        self._chunk = max(1, chunk)
        self._memory = KvMemory(graph, plan)
        self._decoder = SlotDecoder(native, graph, self._memory)
        self._table = SlotTable(plan.slots, self._memory)
        self._waiting: list[Row] = []
        self._running: dict[int, Row] = {}
        self._refused: list[TokenEvent] = []
        self._prompt_budget = self._chunk
        self._prompt_passes = 0

    @classmethod
    def open(  # noqa: PLR0913 - the one place where everything comes together
        cls,
        files: ModelFiles,
        config: GenaiConfig,
        tokenizer: GenaiTokenizer,
        *,
        threads: int,
        spinning: bool,
        limits: Limits,
        memory_budget_bytes: int,
        graph: SlotsGraph | None = None,
    ) -> Self:
        """Load a model.

        Args:
            files: The model.
            config: Its configuration.
            tokenizer: Its tokenizer.
            threads: Compute threads.
            spinning: Whether idle threads spin; faster unless others need the cores.
            limits: Bounds to keep.
            memory_budget_bytes: Most memory the KV cache may come to take.
            graph: What `slots_graph` found, if that was asked before.

        Raises:
            LoadError: The graph is not of the right kind or does not load, or the budget is too small.
        """
        found = graph or slots_graph(files.path, config)
        if isinstance(found, str):
            raise LoadError(model=files.id, detail=found)
        context_length = min(config.model.context_length, limits.context_length or config.model.context_length)
        plan = SlotPlan.for_budget(
            memory_budget_bytes, bytes_per_token=found.kv_bytes_per_token, context_length=context_length
        )
        if plan is None:
            detail = (
                f"{memory_budget_bytes / 1e6:,.0f} MB are too little for its KV cache, which takes "
                f"{found.kv_bytes_per_token / 1e3:,.0f} kB a token; unload other models or give it more memory"
            )
            raise LoadError(model=files.id, detail=detail)
        native = _load(files, found, threads=threads, spinning=spinning)
        try:
            session = cls(found, native, plan, config, tokenizer, chunk=limits.prefill_chunk, threads=threads)
        except OSError as error:  # the system does not promise that much memory
            size_mb = plan.slots * plan.length * found.kv_bytes_per_token / 1e6
            detail = f"{size_mb:,.0f} MB for its KV cache cannot be had ({error.strerror}); give it a smaller budget"
            raise LoadError(model=files.id, detail=detail) from error
        session._try_out(files)
        return session

    def check(self, turn: Turn) -> None:
        """Refuse a turn that can never run.

        Raises:
            RequestError: Says what is wrong with it.
        """
        self._rows.open(turn)

    def admit(self, turn: Turn) -> None:
        """Take a turn in. One that cannot run is told so by the next step."""
        try:
            self._waiting.append(self._rows.open(turn))
        except CupolaError as error:
            self._refused.append(TokenEvent(turn.id, error=to_wire(error)))

    def step(self) -> Sequence[TokenEvent]:
        """Run one forward pass; see the class for which."""
        events, self._refused = self._refused, []
        self._place_waiting()
        ready = [row for row in self._running.values() if row.is_ready]
        filling = [row for row in self._running.values() if not row.is_ready]
        if filling and (not ready or self._prompt_budget > 0):
            events += self._compute_prompts(filling)
        elif ready:
            self._prompt_budget = self._chunk
            events += self._decode(ready)
        return events

    def cancel(self, turn_id: int) -> None:
        """Forget a turn at once. What was computed of it stays in the KV cache."""
        self._refused = [event for event in self._refused if event.turn_id != turn_id]
        self._waiting = [row for row in self._waiting if row.id != turn_id]
        if self._running.pop(turn_id, None):
            self._table.release(turn_id)

    def close(self) -> None:
        """Free the KV cache and the model."""
        self._waiting, self._running, self._refused = [], {}, []
        self._decoder.close()
        self._memory.arrays.clear()

    def _try_out(self, files: ModelFiles) -> None:
        """Compute something, so that what cannot is refused now and the first turn finds everything warm."""
        count = min(FED_AT_LEAST, self.context_length)
        try:
            self._decoder.run(0, np.zeros((1, count), np.int64), [count], [count - 1])
        except RuntimeError as error:
            detail = f"its files do not fit together ({str(error).splitlines()[0][:500]})"
            raise LoadError(
                model=files.id, detail=f"{detail}. Delete the model's folder and download it again"
            ) from error

    def _place_waiting(self) -> None:
        """Give slots to the turns that wait, except those whose beginning is just being computed for another one."""
        for row in self._waiting[:]:
            if self._table.has_room and not self._table.should_wait(row.prompt):
                row.begin(self._table.place(row.id, row.prompt))
                self._running[row.id] = row
                self._waiting.remove(row)

    def _compute_prompts(self, filling: Sequence[Row]) -> list[TokenEvent]:
        """Compute a chunk of one prompt, or the whole of several short ones in neighbouring slots."""
        self._prompt_passes += 1
        lead = filling[0] if self._prompt_passes % 2 else min(filling, key=lambda row: len(row.pending))
        group = self._short_prompts_around(lead, filling)
        count = chunk_length(max(len(row.pending) for row in group), self._chunk)
        self._prompt_budget -= len(group) * count + PASS_COST
        fed = [row.pending[:count] for row in group]
        first = self._table.slot_of(group[0].id)
        total = len(self._table.held(first)) + count
        done = [(row, at * count + len(row.pending) - 1) for at, row in enumerate(group) if len(row.pending) <= count]
        tokens = np.array([one + [0] * (count - len(one)) for one in fed], np.int64)
        try:
            logits = self._decoder.run(first, tokens, [total] * len(group), [pick for _, pick in done])
        except RuntimeError as error:
            return self._failed(group, error)
        for row, computed in zip(group, fed, strict=True):
            self._table.extend(row.id, computed)
            row.pending = row.pending[count:]
        unfinished = [row.event() for row in group if row.pending]
        return unfinished + self._choose([row for row, _ in done], logits)

    def _short_prompts_around(self, lead: Row, filling: Sequence[Row]) -> list[Row]:
        """Return the rows, in the order of their slots, that are computed in one pass with this one.

        GroupQueryAttention takes several rows of several tokens only where nothing came before them.
        """
        fresh = {row.id: row for row in filling if not self._table.held(self._table.slot_of(row.id))}
        if lead.id not in fresh:
            return [lead]
        rows = [fresh[turn] for turn in self._table.neighbours(lead.id, fresh)]
        return rows[packed([len(row.pending) for row in rows], rows.index(lead), self._chunk)]

    def _decode(self, ready: Sequence[Row]) -> list[TokenEvent]:
        """Compute one token of every turn that is past its prompt."""
        rows = {row.id: row for row in ready}
        first, members = self._table.gather(rows)
        tokens, totals = np.zeros((len(members), 1), np.int64), [1] * len(members)
        for at, turn in enumerate(members):
            held = self._table.held(first + at)
            if turn is not None:
                tokens[at], totals[at] = rows[turn].pending, len(held) + 1
            elif held:  # a row computed for nothing writes again what its first token has written before
                tokens[at] = held[0]
        picks = [at for at, turn in enumerate(members) if turn is not None]
        chosen = [rows[turn] for turn in members if turn is not None]
        try:
            logits = self._decoder.run(first, tokens, totals, picks)
        except RuntimeError as error:
            return self._failed(chosen, error)
        for row in chosen:
            self._table.extend(row.id, row.pending)
        return self._choose(chosen, logits)

    def _choose(self, rows: Sequence[Row], logits: Logits) -> list[TokenEvent]:
        if not rows:
            return []
        tokens = sample(logits, [row.sampler for row in rows])
        accepted = zip(rows, tokens, logits, strict=True)
        return [self._ended(row, row.accept(int(token), its_logits)) for row, token, its_logits in accepted]

    def _failed(self, rows: Sequence[Row], error: RuntimeError) -> list[TokenEvent]:
        logger.error("A forward pass failed", exc_info=error)
        failure = WorkerError(detail=f"The model failed underway: {error}")
        return [self._ended(row, row.failure(failure)) for row in rows]

    def _ended(self, row: Row, event: TokenEvent) -> TokenEvent:
        if event.finish or event.error:
            del self._running[row.id]
            self._table.release(row.id, forget=event.error is not None)  # nobody knows what a failed turn left
        return event


def _load(files: ModelFiles, graph: SlotsGraph, *, threads: int, spinning: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    try:
        return ort.InferenceSession(graph.path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the binding raises classes of its own that derive from Exception alone
        raise LoadError(model=files.id, detail=f"ONNX Runtime refuses {graph.path.name}: {error}") from error
