"""The books of the KV cache: which slot holds which tokens, and for which turn. Pure Python, moves no memory itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

FED_AT_LEAST = 2
"""This many tokens of a prompt are always computed: the last one for its logits, and never one alone.

Attention over a single new token takes another path in ONNX Runtime, which rounds differently. Computed two or more
at a time, the same prompt gives the same keys, values and logits to the last bit, whatever was cached and however it
was cut. So only tokens that were computed like that are shared, and the cache changes no answer.
"""

HOLE_COST = 64
"""A row that is computed for nothing in a step costs about as much as moving so many tokens to another slot."""

WORTH_WAITING = 16
"""A new turn waits for so many tokens that another turn is about to compute for both."""

_COMPARED_AT_ONCE = 256


class KvMoves(Protocol):
    """What the table asks of the memory whose books it keeps."""

    def swap(self, first: int, second: int, counts: Sequence[int]) -> None:
        """Exchange two slots that hold `counts` tokens."""

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the first tokens of a slot to another one."""


@dataclass(slots=True)
class _Slot:
    """`held` are the tokens whose keys and values are in memory, the first `shared` of them for every turn to use."""

    held: list[int] = field(default_factory=list)
    shared: int = 0
    turn: int | None = None
    prompt: Sequence[int] = ()
    used_at: int = 0


class SlotTable:
    """Gives slots to turns, finds shared prefixes, and keeps the rows of a decode step together.

    A pass runs over neighbouring slots, so the turns in it should have no others between them. Moving a turn costs
    time, and so does a row computed for nothing: a move is made once the rows wasted have cost as much (the ski
    rental rule: never more than twice the best choice in hindsight).

    Args:
        slots: How many there are.
        memory: Is told what to move.
        hole_cost: What a row computed for nothing costs, in tokens moved.
    """

    def __init__(self, slots: int, memory: KvMoves, *, hole_cost: int = HOLE_COST) -> None:
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
        """Return where a turn is now. It may be elsewhere after `gather`."""
        return self._places[turn]

    def held(self, slot: int) -> Sequence[int]:
        """Return the tokens whose keys and values a slot holds."""
        return self._slots[slot].held

    def should_wait(self, prompt: Sequence[int]) -> bool:
        """Tell whether a turn that is being computed will soon hold more of this prompt than any slot does now."""
        usable = prompt[: _usable(prompt)]
        filling = [slot for slot in self._slots if slot.turn is not None and slot.shared == len(slot.held)]
        coming = max((common_prefix(slot.prompt, usable) for slot in filling), default=0)
        return coming >= WORTH_WAITING and coming >= WORTH_WAITING + max(self._shared_prefixes(usable))

    def place(self, turn: int, prompt: Sequence[int], *, worthwhile: int = 1) -> int:
        """Give a turn a free slot; returns how many tokens of its prompt the slot holds already.

        The slot with the longest common prefix becomes the turn's own, unless it is taken or most of what it holds
        would be lost: then the prefix is copied to the free slot that was not used for the longest time. One of fewer
        than `worthwhile` tokens counts as none.
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
        """Note that a pass has computed more tokens of a turn."""
        slot = self._slots[self._places[turn]]
        if len(tokens) > 1 and slot.shared == len(slot.held):
            slot.shared += len(tokens)
        slot.held += tokens
        slot.used_at = self._tick()

    def release(self, turn: int, *, forget: bool = False) -> None:
        """Free a turn's slot. What it holds for all stays for later turns, unless it is to be forgotten."""
        slot = self._slots[self._places.pop(turn)]
        slot.turn, slot.prompt = None, ()
        if forget:
            slot.shared = slot.used_at = 0
        del slot.held[slot.shared :]

    def neighbours(self, turn: int, among: Collection[int]) -> list[int]:
        """Return the turns next to each other around this one, in order, as far as they are among those given."""
        first = last = self._places[turn]
        while first > 0 and self._slots[first - 1].turn in among:
            first -= 1
        while last + 1 < len(self) and self._slots[last + 1].turn in among:
            last += 1
        return [slot.turn for slot in self._slots[first : last + 1] if slot.turn is not None]

    def gather(self, turns: Collection[int]) -> tuple[int, list[int | None]]:
        """Choose the slots of a step over these turns, after moving those for which that has become worth it.

        Returns:
            The first slot, and for every slot from there on its turn, or None where a row is computed for nothing.
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
        """Return the free slot that is the least loss: an empty one near the running turns, or the least recent."""
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
    """Return how many tokens two sequences have in common from the start."""
    longest = min(len(held), len(wanted))
    equal = 0
    while equal < longest and held[equal : equal + _COMPARED_AT_ONCE] == wanted[equal : equal + _COMPARED_AT_ONCE]:
        equal += _COMPARED_AT_ONCE
    while equal < longest and held[equal] == wanted[equal]:
        equal += 1
    return min(equal, longest)


def _usable(prompt: Sequence[int]) -> int:
    return max(0, len(prompt) - FED_AT_LEAST)
