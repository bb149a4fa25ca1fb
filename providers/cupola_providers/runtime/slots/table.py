"""The slot table of the KV cache: which slot holds which tokens for which turn, and which tokens share a pass.

It is pure Python and moves no memory itself.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

MIN_NEW_TOKENS = 2
"""Minimum number of prompt tokens that are computed: the last one for its logits, and never a single token.

ONNX Runtime computes attention over a single new token with another kernel, which rounds differently. Computed two or
more at a time, a prompt gives the same keys, values and logits to the last bit, whatever was cached and however it was
chunked. Only tokens that were computed this way are shared, so the cache never changes an answer.
"""

HOLE_COST = 64
"""Cost of an unused row in a step, in tokens moved to another slot."""

WORTH_WAITING = 16
"""A new turn waits for another turn that is about to compute at least this many shared tokens."""

_COMPARED_AT_ONCE = 256

PASS_COST = 16
"""Fixed cost of a pass over a prompt, in tokens."""


class KvCopier(Protocol):
    """Moves tokens between slots; implemented by `KvMemory`."""

    def swap(self, first: int, second: int, counts: Sequence[int]) -> None:
        """Exchange two slots that hold `counts` tokens."""

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the first tokens of a slot to another one."""


@dataclass(slots=True)
class _Slot:
    """One slot. `held` are the tokens in memory; the first `shared` of them may be reused by every turn."""

    held: list[int] = field(default_factory=list)
    shared: int = 0
    turn: int | None = None
    prompt: Sequence[int] = ()
    used_at: int = 0


class SlotTable:
    """Assigns slots to turns, finds shared prefixes, and keeps the rows of a decode step adjacent.

    A pass runs over adjacent slots. A gap costs an unused row in every step, and closing it costs a move. A move is
    made once the unused rows have cost as much (ski rental: at most twice the cost of the best choice in hindsight).

    Args:
        slots: Number of slots.
        memory: Moves the tokens.
        hole_cost: Cost of an unused row, in tokens moved.
    """

    def __init__(self, slots: int, memory: KvCopier, *, hole_cost: int = HOLE_COST) -> None:
        self._hole_cost = hole_cost
        self._slots = [_Slot() for _ in range(slots)]
        self._places: dict[int, int] = {}
        self._memory = memory
        self._clock = 0
        self._debt = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free for another turn."""
        return len(self._places) < len(self._slots)

    def slot_of(self, turn: int) -> int:
        """Return the slot of a turn. `gather` may change it."""
        return self._places[turn]

    def held(self, slot: int) -> Sequence[int]:
        """Return the tokens whose keys and values are in a slot."""
        return self._slots[slot].held

    def should_wait(self, prompt: Sequence[int]) -> bool:
        """Whether a turn in prefill will soon hold a longer prefix of this prompt than any slot holds now."""
        usable = prompt[: _usable(prompt)]
        filling = [slot for slot in self._slots if slot.turn is not None and slot.shared == len(slot.held)]
        coming = max((common_prefix(slot.prompt, usable) for slot in filling), default=0)
        return coming >= WORTH_WAITING and coming >= WORTH_WAITING + max(self._shared_prefixes(usable))

    def place(self, turn: int, prompt: Sequence[int], *, worthwhile: int = 1) -> int:
        """Assign a free slot to a turn; returns the number of tokens of its prompt that the slot already holds.

        The slot with the longest common prefix is used, unless it is occupied or would lose most of its tokens. In
        that case the prefix is copied to the least recently used free slot. Prefixes shorter than `worthwhile` tokens
        are not reused.
        """
        usable = prompt[: _usable(prompt)]
        shared = [length if length >= worthwhile else 0 for length in self._shared_prefixes(usable)]
        source = max(
            range(len(self)), key=lambda i: (shared[i], self._slots[i].turn is None, -len(self._slots[i].held))
        )
        target = self._oldest_free()
        if shared[source] and source != target:
            free = self._slots[source].turn is None
            if free and 2 * shared[source] >= len(self._slots[source].held):
                target = source
            else:
                self._memory.copy(source, target, shared[source])
        self._places[turn] = target
        self._slots[target] = _Slot(list(prompt[: shared[source]]), shared[source], turn, prompt, self._tick())
        return shared[source]

    def extend(self, turn: int, tokens: Sequence[int]) -> None:
        """Record that a pass has computed further tokens of a turn."""
        slot = self._slots[self._places[turn]]
        if len(tokens) > 1 and slot.shared == len(slot.held):
            slot.shared += len(tokens)
        slot.held += tokens
        slot.used_at = self._tick()

    def release(self, turn: int, *, forget: bool = False) -> None:
        """Free a turn's slot. Its shared tokens stay for later turns unless `forget` is set."""
        slot = self._slots[self._places.pop(turn)]
        slot.turn, slot.prompt = None, ()
        if forget:
            slot.shared = slot.used_at = 0
        del slot.held[slot.shared :]

    def neighbours(self, turn: int, among: Collection[int]) -> list[int]:
        """Return the turns of `among` in the adjacent slots around this turn, in order, including it."""
        first = last = self._places[turn]
        while first > 0 and self._slots[first - 1].turn in among:
            first -= 1
        while last + 1 < len(self) and self._slots[last + 1].turn in among:
            last += 1
        return [slot.turn for slot in self._slots[first : last + 1] if slot.turn is not None]

    def gather(self, turns: Collection[int]) -> tuple[int, list[int | None]]:
        """Choose the slots of a step over these turns, and close gaps where that has become cheaper.

        Returns:
            The first slot, and the turn of each slot from there on; None for an unused row.
        """
        rows = sorted(self._places[turn] for turn in turns)
        holes = rows[-1] - rows[0] + 1 - len(rows)
        self._debt = self._debt + holes * self._hole_cost if holes else 0
        while rows[-1] - rows[0] + 1 > len(rows):
            edge, hole = self._cheapest_move(rows)
            cost = len(self._slots[edge].held) + len(self._slots[hole].held)
            if cost > self._debt:
                break
            self._debt -= cost
            self._swap(edge, hole)
            rows = sorted({*rows, hole} - {edge})
        members = [slot.turn for slot in self._slots[rows[0] : rows[-1] + 1]]
        return rows[0], [turn if turn in turns else None for turn in members]

    def _shared_prefixes(self, tokens: Sequence[int]) -> list[int]:
        return [min(slot.shared, common_prefix(slot.held, tokens)) for slot in self._slots]

    def _cheapest_move(self, rows: Sequence[int]) -> tuple[int, int]:
        holes = [index for index in range(rows[0], rows[-1]) if index not in rows]
        hole = min(holes, key=lambda index: len(self._slots[index].held))
        return min((rows[0], rows[-1]), key=lambda index: len(self._slots[index].held)), hole

    def _swap(self, first: int, second: int) -> None:
        self._memory.swap(first, second, (len(self._slots[first].held), len(self._slots[second].held)))
        self._slots[first], self._slots[second] = self._slots[second], self._slots[first]
        for index in (first, second):
            turn = self._slots[index].turn
            if turn is not None:
                self._places[turn] = index

    def _oldest_free(self) -> int:
        """Return an empty slot near the running turns, or else the least recently used free slot."""
        running = [index for index, slot in enumerate(self._slots) if slot.turn is not None] or [0]
        free = [index for index, slot in enumerate(self._slots) if slot.turn is None]
        return min(
            free,
            key=lambda i: (bool(self._slots[i].held), self._slots[i].used_at, min(abs(i - other) for other in running)),
        )

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def common_prefix(held: Sequence[int], wanted: Sequence[int]) -> int:
    """Return the length of the common prefix of two token sequences."""
    longest = min(len(held), len(wanted))
    equal = 0
    while equal < longest and held[equal : equal + _COMPARED_AT_ONCE] == wanted[equal : equal + _COMPARED_AT_ONCE]:
        equal += _COMPARED_AT_ONCE
    while equal < longest and held[equal] == wanted[equal]:
        equal += 1
    return min(equal, longest)


def chunk_length(left: int, chunk: int) -> int:
    """Return the number of tokens for the next pass: at most `chunk`, and never leaving a single token."""
    count = min(left, chunk)
    return count - 1 if left - count == 1 and count > MIN_NEW_TOKENS else count


def select_packed(lengths: Sequence[int], lead: int, most: int) -> slice:
    """Choose the adjacent prompts to compute in one pass with a given one, padded to the longest.

    Args:
        lengths: Tokens of the prompts, in the order of their slots.
        lead: Index of the prompt that must be included.
        most: Maximum number of tokens in the pass, including padding; a lead by itself may exceed it.
    """

    def pays(first: int, last: int) -> bool:
        part = lengths[first : last + 1]
        return len(part) * max(part) <= min(most, sum(part) + PASS_COST * (len(part) - 1))

    first = last = lead
    while last + 1 < len(lengths) and pays(first, last + 1):
        last += 1
    while first > 0 and pays(first - 1, last):
        first -= 1
    return slice(first, last + 1)


def _usable(prompt: Sequence[int]) -> int:
    return max(0, len(prompt) - MIN_NEW_TOKENS)
