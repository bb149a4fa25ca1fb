"""The scheduler of a `slots` session: many turns share each forward pass over a KV cache of slots."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from cupola.errors import CupolaError, LoadError, WorkerError, to_wire
from cupola.provider import Limits, ModelFiles, Session, TokenEvent, Turn
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.row import Row, Rows
from cupola_providers.runtime.sampling import Logits, sample
from cupola_providers.runtime.slots.decoder import SlotDecoder
from cupola_providers.runtime.slots.graph import SlotsGraph, slots_graph
from cupola_providers.runtime.slots.loading import OpenGraphs
from cupola_providers.runtime.slots.memory import KvMemory, SlotPlan
from cupola_providers.runtime.slots.speculation import Speculation
from cupola_providers.runtime.slots.table import MIN_NEW_TOKENS, PASS_COST, SlotTable, chunk_length, select_packed
from cupola_providers.runtime.target import ON_CPU, Target, nodes_by_provider
from cupola_providers.runtime.tokenizer import GenaiTokenizer

logger = logging.getLogger(__name__)

_SHARED = "its attention is GroupQueryAttention with a cache that turns can share"


class SlotsSession(Session):
    """Runs one turn per slot at the same time. Turns join and leave between any two steps.

    A step is one forward pass: a chunk of one prompt, several short prompts, or one token of every turn that is past
    its prompt. Prefill and decoding alternate, with about the time of one chunk each, so that a long prompt does not
    block other turns. Every second prefill pass goes to the prompt with the fewest tokens left. Chunks are halved
    while other turns are present.

    With few decoding turns and predictable tokens, a step verifies drafts (speculative decoding). It returns all
    tokens up to the first rejected one, which are the same tokens as without drafts.

    Args:
        graphs: The opened graphs. Without a checking graph there is no speculative decoding.
        plan: Number and length of the slots.
        config: The model's configuration.
        tokenizer: The model's tokenizer.
        chunk: Maximum number of prompt tokens in one step.
        threads: Compute threads, for reports.
    """

    kind = "slots"

    def __init__(
        self,
        graphs: OpenGraphs,
        plan: SlotPlan,
        config: GenaiConfig,
        tokenizer: GenaiTokenizer,
        *,
        chunk: int = 256,
        threads: int = 0,
    ) -> None:
        graph, checking = graphs.main.graph, graphs.checking
        self.tokenizer = tokenizer
        self.threads = threads
        self.capacity = plan.slots
        self.context_length = plan.length
        self.layout = graph.layout
        self.nodes = nodes_by_provider(graphs.main.native)
        self.reason = "; ".join((_SHARED, *graphs.remarks))
        self._rows = Rows(config, tokenizer, vocab_size=graph.vocab_size, context_length=plan.length)
        self._chunk = max(1, chunk)
        self._memory = KvMemory(graph, plan)
        self._decoder = SlotDecoder(graphs.main.native, graph, self._memory)
        self._checking = SlotDecoder(checking.native, checking.graph, self._memory) if checking else None
        self._speculation = Speculation(checking.graph.one_by_one) if checking else None
        self._table = SlotTable(plan.slots, self._memory)
        self._waiting: list[Row] = []
        self._running: dict[int, Row] = {}
        self._refused: list[TokenEvent] = []
        self._prompt_budget = 0
        self._prompt_passes = 0

    @classmethod
    def open(  # noqa: PLR0913 - the composition of the session
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
        speculation: bool = True,
        target: Target = ON_CPU,
    ) -> Self:
        """Load a model.

        Args:
            files: The model.
            config: Its configuration.
            tokenizer: Its tokenizer.
            threads: Compute threads.
            spinning: Whether idle threads spin, which is faster unless other processes need the cores.
            limits: Limits of the session.
            memory_budget_bytes: Maximum size of the KV cache, in bytes.
            graph: The result of `slots_graph`, if it is known.
            speculation: Whether speculative decoding may be used. It keeps a second copy of the weights.
            target: Execution provider and device. Its attention must append in place to a cache in main memory.

        Raises:
            LoadError: The graph is not supported or does not load, or the budget is too small.
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
                f"{memory_budget_bytes / 1e6:,.0f} MB are not enough for its KV cache, which needs "
                f"{found.kv_bytes_per_token / 1e3:,.0f} kB per token. Unload other models or raise its kv_memory_mb"
            )
            raise LoadError(model=files.id, detail=detail)
        graphs = OpenGraphs.of(
            files,
            found,
            config,
            threads=threads,
            spinning=spinning,
            speculation_budget_bytes=memory_budget_bytes if speculation else 0,
            target=target,
        )
        try:
            session = cls(graphs, plan, config, tokenizer, chunk=limits.prefill_chunk, threads=threads)
        except OSError as error:  # the system cannot reserve that much memory
            size_mb = plan.slots * plan.length * found.kv_bytes_per_token / 1e6
            detail = f"{size_mb:,.0f} MB for its KV cache cannot be reserved ({error.strerror}). Lower its kv_memory_mb"
            raise LoadError(model=files.id, detail=detail) from error
        session._try_out(files)
        return session

    def check(self, turn: Turn) -> None:
        """Validate a turn.

        Raises:
            RequestError: The turn can never run; the detail gives the reason.
        """
        self._rows.open(turn)

    def admit(self, turn: Turn) -> None:
        """Accept a turn. The next step reports the error of a turn that cannot run."""
        try:
            self._waiting.append(self._rows.open(turn))
        except CupolaError as error:
            self._refused.append(TokenEvent(turn.id, error=to_wire(error)))

    def step(self) -> Sequence[TokenEvent]:
        """Run one forward pass, chosen as the class describes."""
        events, self._refused = self._refused, []
        self._place_waiting()
        ready = [row for row in self._running.values() if row.is_ready]
        filling = [row for row in self._running.values() if not row.is_ready]
        if filling and (not ready or self._prompt_budget > 0):
            events += self._compute_prompts(filling)
        elif ready:
            self._prompt_budget = self._chunk // 2
            events += self._decode(ready)
        return events

    def cancel(self, turn_id: int) -> None:
        """Remove a turn. Its computed prompt tokens stay in the KV cache."""
        self._refused = [event for event in self._refused if event.turn_id != turn_id]
        self._waiting = [row for row in self._waiting if row.id != turn_id]
        if turn_id in self._running:
            self._forget(turn_id)
            self._table.release(turn_id)

    def close(self) -> None:
        """Free the KV cache and the model."""
        self._waiting, self._running, self._refused = [], {}, []
        self._decoder.close()
        if self._checking:
            self._checking.close()
        self._memory.arrays.clear()

    def _try_out(self, files: ModelFiles) -> None:
        """Run a trial pass, so that a graph that cannot compute fails now and the first turn starts warm."""
        count = min(MIN_NEW_TOKENS, self.context_length)
        try:
            self._decoder.run(0, np.zeros((1, count), np.int64), [count], [count - 1])
        except RuntimeError as error:
            detail = f"its files do not fit together ({str(error).splitlines()[0][:500]})"
            raise LoadError(
                model=files.id, detail=f"{detail}. Delete the model's folder and download it again"
            ) from error

    def _place_waiting(self) -> None:
        """Assign slots to waiting turns, except those whose prefix another turn is about to compute.

        Short prompts can share a pass if none of their tokens are cached. That saves more time than a prefix of a few
        tokens, such as the fixed start of a chat template, so short prefixes are not reused then.
        """
        beginning = len(self._waiting) + sum(not row.is_ready for row in self._running.values())
        worthwhile = PASS_COST if beginning > 1 else 1
        for row in self._waiting[:]:
            if self._table.has_room and not self._table.should_wait(row.prompt):
                row.begin(self._table.place(row.id, row.prompt, worthwhile=worthwhile))
                self._running[row.id] = row
                self._waiting.remove(row)

    def _compute_prompts(self, filling: Sequence[Row]) -> list[TokenEvent]:
        """Compute a chunk of one prompt, or several complete short prompts in adjacent slots."""
        self._prompt_passes += 1
        lead = filling[0] if self._prompt_passes % 2 else min(filling, key=lambda row: len(row.pending))
        alone = len(self._running) + len(self._waiting) == 1
        chunk = self._chunk if alone else max(1, self._chunk // 2)
        group = self._short_prompts_around(lead, filling, chunk)
        count = chunk_length(max(len(row.pending) for row in group), chunk)
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

    def _short_prompts_around(self, lead: Row, filling: Sequence[Row], chunk: int) -> list[Row]:
        """Return the rows to compute in one pass with this one, in the order of their slots.

        GroupQueryAttention supports several rows of several tokens only without past tokens.
        """
        fresh = {row.id: row for row in filling if not self._table.held(self._table.slot_of(row.id))}
        if lead.id not in fresh:
            return [lead]
        rows = [fresh[turn] for turn in self._table.neighbours(lead.id, fresh)]
        return rows[select_packed([len(row.pending) for row in rows], rows.index(lead), chunk)]

    def _decode(self, ready: Sequence[Row]) -> list[TokenEvent]:
        """Compute the next token of every decoding turn, or verify drafts where that is faster."""
        first, members = self._table.gather([row.id for row in ready])
        rows = {row.id: row for row in ready}
        chosen = [rows[turn] for turn in members if turn is not None]
        guesses = self._guesses(first, members, chosen)
        started = time.perf_counter()
        try:
            if guesses:
                events = self._check_guesses(first, members, rows, guesses)
            else:
                events = self._choose(chosen, self._next_logits(first, members, rows))
        except RuntimeError as error:
            return self._failed(chosen, error)
        if self._speculation:
            self._speculation.took(len(chosen), time.perf_counter() - started, guessed=bool(guesses))
        return events

    def _next_logits(self, first: int, members: Sequence[int | None], rows: Mapping[int, Row]) -> Logits:
        """Compute one token of every turn; returns float32 [turns, vocab_size]."""
        tokens, totals = np.zeros((len(members), 1), np.int64), [1] * len(members)
        for at, turn in enumerate(members):
            held = self._table.held(first + at)
            if turn is not None:
                tokens[at], totals[at] = rows[turn].pending, len(held) + 1
            elif held:  # an unused row rewrites the cache entry of its first token with the same values
                tokens[at] = held[0]
        logits = self._decoder.run(first, tokens, totals, [at for at, turn in enumerate(members) if turn is not None])
        for turn in members:
            if turn is not None:
                self._table.extend(turn, rows[turn].pending)
        return logits

    def _guesses(self, first: int, members: Sequence[int | None], rows: Sequence[Row]) -> dict[int, list[int]]:
        """Return the drafts to verify by turn id; empty if that is not faster or the slots are too short."""
        if not self._speculation:
            return {}
        guesses = self._speculation.drafts(rows)
        longest = max(len(self._table.held(first + at)) for at in range(len(members)))
        return guesses if longest + self._speculation.tokens <= self.context_length else {}

    def _check_guesses(
        self, first: int, members: Sequence[int | None], rows: Mapping[int, Row], guesses: Mapping[int, Sequence[int]]
    ) -> list[TokenEvent]:
        """Compute the pending token and the draft of every turn, and accept tokens up to the first rejected one."""
        assert self._checking
        assert self._speculation
        count = self._speculation.tokens
        tokens = np.zeros((len(members), count), np.int64)
        picks: list[int] = []
        # entries beyond the held tokens, from rejected drafts and unused rows, are overwritten later
        totals = [len(self._table.held(first + at)) + count for at in range(len(members))]
        for at, turn in enumerate(members):
            if turn is not None:
                line = [*rows[turn].pending, *guesses[turn]]
                tokens[at, : len(line)] = line
                picks += range(at * count, at * count + len(line))
        logits = iter(self._checking.run(first, tokens, totals, picks))
        events = []
        for turn in members:
            if turn is not None:
                row_logits = [next(logits) for _ in range(len(guesses[turn]) + 1)]
                events += self._accept_guesses(rows[turn], guesses[turn], row_logits)
        return events

    def _accept_guesses(self, row: Row, guesses: Sequence[int], logits: Sequence[Logits]) -> list[TokenEvent]:
        """Sample tokens from a turn's logits in order, up to the first that differs from the draft."""
        events = []
        for guess, row_logits in zip([*guesses, None], logits, strict=True):
            self._table.extend(row.id, row.pending)
            token = int(sample(row_logits[None], [row.sampler])[0])
            events.append(self._ended(row, row.accept(token, row_logits)))
            if token != guess or row.id not in self._running:
                break
        return events

    def _choose(self, rows: Sequence[Row], logits: Logits) -> list[TokenEvent]:
        if not rows:
            return []
        tokens = sample(logits, [row.sampler for row in rows])
        accepted = zip(rows, tokens, logits, strict=True)
        return [self._ended(row, row.accept(int(token), row_logits)) for row, token, row_logits in accepted]

    def _failed(self, rows: Sequence[Row], error: RuntimeError) -> list[TokenEvent]:
        logger.error("A forward pass failed", exc_info=error)
        failure = WorkerError(detail=f"The model failed during generation: {error}")
        return [self._ended(row, row.failure(failure)) for row in rows]

    def _ended(self, row: Row, event: TokenEvent) -> TokenEvent:
        if self._speculation:
            for token in event.tokens:
                self._speculation.add(row.id, token)
        if event.finish or event.error:
            self._forget(row.id)
            self._table.release(row.id, forget=event.error is not None)  # the cache of a failed turn is undefined
        return event

    def _forget(self, turn: int) -> None:
        del self._running[turn]
        if self._speculation:
            self._speculation.forget(turn)
