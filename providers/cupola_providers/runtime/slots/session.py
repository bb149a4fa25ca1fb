"""The `slots` session: many turns share each forward pass over a KV cache of slots."""

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
from cupola_providers.runtime.slots.memory import KvMemory
from cupola_providers.runtime.slots.opening import OpenGraphs
from cupola_providers.runtime.slots.packing import PASS_COST, chunk_length, packed
from cupola_providers.runtime.slots.plan import SlotPlan
from cupola_providers.runtime.slots.speculation import Speculation
from cupola_providers.runtime.slots.table import FED_AT_LEAST, SlotTable
from cupola_providers.runtime.target import ON_CPU, Target, nodes_taken
from cupola_providers.runtime.tokenizer import GenaiTokenizer

logger = logging.getLogger(__name__)

_SHARED = "its attention is GroupQueryAttention with a cache that turns can share"


class SlotsSession(Session):
    """Runs as many turns at once as there are slots; they join and leave between any two steps.

    A step is one forward pass: over one chunk of a prompt (or several short prompts together), or over one token of
    every turn that is past its prompt. Prompts and decoding alternate, about a chunk's time for each, so a long
    prompt holds nobody up, and half of the prompt passes go to the prompt that has least left, so short ones get in
    quickly beside a long one. A chunk is half as long while others wait.

    Where few turns are past their prompts, and their next tokens can be guessed, a step computes these guesses with
    the token that is certain, and yields all tokens up to the first wrong guess: the same as without, but sooner.

    Args:
        graphs: What runs. Without a second graph nothing is guessed.
        plan: Number and length of the slots.
        config: The model's configuration.
        tokenizer: The model's tokenizer.
        chunk: Most prompt tokens in one step.
        threads: Compute threads, for the report.
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
        self.nodes = nodes_taken(graphs.main.native)
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
        speculation: bool = True,
        target: Target = ON_CPU,
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
            speculation: Whether answers may be guessed ahead, for which the weights are held twice if they are small
                beside that budget.
            target: Where it runs. Its attention appends in place to a cache in the machine's own memory.

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
            self._prompt_budget = self._chunk // 2
            events += self._decode(ready)
        return events

    def cancel(self, turn_id: int) -> None:
        """Forget a turn at once. What was computed of it stays in the KV cache."""
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
        """Give slots to the turns that wait, except those whose beginning is just being computed for another one.

        Several short prompts share a pass if nothing of them is in the cache. That saves more than a prefix of a few
        tokens does, such as the one with which every prompt of a template begins.
        """
        beginning = len(self._waiting) + sum(not row.is_ready for row in self._running.values())
        worthwhile = PASS_COST if beginning > 1 else 1
        for row in self._waiting[:]:
            if self._table.has_room and not self._table.should_wait(row.prompt):
                row.begin(self._table.place(row.id, row.prompt, worthwhile=worthwhile))
                self._running[row.id] = row
                self._waiting.remove(row)

    def _compute_prompts(self, filling: Sequence[Row]) -> list[TokenEvent]:
        """Compute a chunk of one prompt, or the whole of several short ones in neighbouring slots."""
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
        """Return the rows, in the order of their slots, that are computed in one pass with this one.

        GroupQueryAttention takes several rows of several tokens only where nothing came before them.
        """
        fresh = {row.id: row for row in filling if not self._table.held(self._table.slot_of(row.id))}
        if lead.id not in fresh:
            return [lead]
        rows = [fresh[turn] for turn in self._table.neighbours(lead.id, fresh)]
        return rows[packed([len(row.pending) for row in rows], rows.index(lead), chunk)]

    def _decode(self, ready: Sequence[Row]) -> list[TokenEvent]:
        """Compute the next token of every turn that is past its prompt, or several where guesses are worth checking."""
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
        """Compute one token of every turn."""
        tokens, totals = np.zeros((len(members), 1), np.int64), [1] * len(members)
        for at, turn in enumerate(members):
            held = self._table.held(first + at)
            if turn is not None:
                tokens[at], totals[at] = rows[turn].pending, len(held) + 1
            elif held:  # a row computed for nothing writes again what its first token has written before
                tokens[at] = held[0]
        logits = self._decoder.run(first, tokens, totals, [at for at, turn in enumerate(members) if turn is not None])
        for turn in members:
            if turn is not None:
                self._table.extend(turn, rows[turn].pending)
        return logits

    def _guesses(self, first: int, members: Sequence[int | None], rows: Sequence[Row]) -> dict[int, list[int]]:
        """Return what to check in this pass, by turn; nothing if there is nothing worth it, or no room."""
        if not self._speculation:
            return {}
        guesses = self._speculation.drafts(rows)
        longest = max(len(self._table.held(first + at)) for at in range(len(members)))
        return guesses if longest + self._speculation.tokens <= self.context_length else {}

    def _check_guesses(
        self, first: int, members: Sequence[int | None], rows: Mapping[int, Row], guesses: Mapping[int, Sequence[int]]
    ) -> list[TokenEvent]:
        """Compute every turn's pending token and guesses, and accept tokens as long as they are what was guessed."""
        assert self._checking
        assert self._speculation
        count = self._speculation.tokens
        tokens = np.zeros((len(members), count), np.int64)
        picks: list[int] = []
        # what is written beyond the tokens held, by guesses that are wrong and in rows of others, counts for nothing
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
        """Choose tokens from a turn's logits, one after the other, up to the first that was not guessed."""
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
        failure = WorkerError(detail=f"The model failed underway: {error}")
        return [self._ended(row, row.failure(failure)) for row in rows]

    def _ended(self, row: Row, event: TokenEvent) -> TokenEvent:
        if self._speculation:
            for token in event.tokens:
                self._speculation.add(row.id, token)
        if event.finish or event.error:
            self._forget(row.id)
            self._table.release(row.id, forget=event.error is not None)  # nobody knows what a failed turn left
        return event

    def _forget(self, turn: int) -> None:
        del self._running[turn]
        if self._speculation:
            self._speculation.forget(turn)
