"""The books of the KV cache: whatever joins, leaves and moves, they say what memory holds."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cupola_providers.runtime.slots.table import MIN_NEW_TOKENS, SlotTable, common_prefix

SLOTS, LENGTH, HOLE_COST = 4, 40, 8


class FakeMemory:
    """Remembers, for every slot and position, which token stands there after which others."""

    def __init__(self):
        self.slots = [[None] * LENGTH for _ in range(SLOTS)]
        self.moved = 0

    def swap(self, first, second, counts):
        used = max(counts)
        a, b = self.slots[first], self.slots[second]
        a[:used], b[:used] = b[:used], a[:used]
        self.moved += sum(counts)

    def copy(self, source, target, count):
        self.slots[target][:count] = self.slots[source][:count]
        self.moved += count

    def write(self, slot, at, tokens):
        for offset, token in enumerate(tokens):
            self.slots[slot][at + offset] = token


class Books(RuleBasedStateMachine):
    """Turns join, compute, decode together and leave in any order; a slow, obvious model checks every claim."""

    def __init__(self):
        super().__init__()
        self.memory = FakeMemory()
        self.table = SlotTable(SLOTS, self.memory, hole_cost=HOLE_COST)
        self.pending = {}
        self.written = {}
        self.shared = {}  # how many tokens of a turn were computed two or more at a time
        self.next_turn = 0
        self.wasted = 0
        self.gathered_moves = 0

    @precondition(lambda self: self.table.has_room)
    @rule(prompt=st.lists(st.integers(0, 2), min_size=1, max_size=12), copied=st.booleans(), data=st.data())
    def join(self, prompt, copied, data):
        if copied and self.written:  # a follow-up of something seen before
            prompt = data.draw(st.sampled_from(sorted(self.written.values()))) + prompt
        prompt = prompt[:20]
        running = {self.table.slot_of(turn): turn for turn in self.pending}
        best = max(self.usable_prefix(slot, running.get(slot), prompt) for slot in range(SLOTS))
        held_before = {slot: list(self.table.held(slot)) for slot in range(SLOTS)}
        cached = self.table.place(self.next_turn, prompt)
        assert cached == min(best, max(0, len(prompt) - MIN_NEW_TOKENS))
        slot = self.table.slot_of(self.next_turn)
        assert slot not in running
        assert all(list(self.table.held(other)) == held_before[other] for other in range(SLOTS) if other != slot)
        self.pending[self.next_turn] = prompt[cached:]
        self.written[self.next_turn] = prompt[:cached]
        self.shared[self.next_turn] = cached
        self.next_turn += 1

    def usable_prefix(self, slot, turn, prompt):
        common = common_prefix(self.table.held(slot), prompt)
        return common if turn is None else min(common, self.shared[turn])

    @precondition(lambda self: any(len(tokens) > 1 for tokens in self.pending.values()))
    @rule(data=st.data(), count=st.integers(1, 6))
    def compute_a_chunk(self, data, count):
        turn = data.draw(st.sampled_from([turn for turn, tokens in self.pending.items() if len(tokens) > 1]))
        count = min(count, len(self.pending[turn]))
        self.compute(turn, self.pending[turn][:count])
        self.pending[turn] = self.pending[turn][count:] or [9]

    @precondition(lambda self: any(len(tokens) == 1 for tokens in self.pending.values()))
    @rule(token=st.integers(0, 2))
    def decode(self, token):
        ready = {turn for turn, tokens in self.pending.items() if len(tokens) == 1}
        moved = self.memory.moved
        first, members = self.table.gather(ready)
        self.gathered_moves += self.memory.moved - moved
        assert {turn for turn in members if turn is not None} == ready
        assert None not in (members[0], members[-1])
        self.wasted += HOLE_COST * members.count(None)
        for at, turn in enumerate(members):
            if turn is None:
                self.memory.write(first + at, 0, self.table.held(first + at)[:1])
                continue
            assert self.table.slot_of(turn) == first + at
            self.compute(turn, self.pending[turn])
            self.pending[turn] = [token]
            if len(self.written[turn]) >= LENGTH - 1:
                self.leave(turn)

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), forget=st.booleans())
    def somebody_leaves(self, data, forget):
        self.leave(data.draw(st.sampled_from(sorted(self.pending))), forget=forget)

    def leave(self, turn, *, forget=False):
        slot = self.table.slot_of(turn)
        self.table.release(turn, forget=forget)
        del self.pending[turn]
        assert list(self.table.held(slot)) == ([] if forget else self.written[turn][: self.shared[turn]])

    def compute(self, turn, tokens):
        slot = self.table.slot_of(turn)
        self.memory.write(slot, len(self.written[turn]), tokens)
        self.table.extend(turn, tokens)
        if len(tokens) > 1 and self.shared[turn] == len(self.written[turn]):
            self.shared[turn] += len(tokens)
        self.written[turn] = self.written[turn] + list(tokens)

    @invariant()
    def the_books_say_what_memory_holds(self):
        for slot in range(SLOTS):
            held = list(self.table.held(slot))
            assert self.memory.slots[slot][: len(held)] == held

    @invariant()
    def every_turn_has_its_own_slot_with_its_own_tokens(self):
        slots = [self.table.slot_of(turn) for turn in self.pending]
        assert len(set(slots)) == len(slots)
        assert self.table.has_room == (len(slots) < SLOTS)
        for turn, slot in zip(self.pending, slots, strict=True):
            assert list(self.table.held(slot)) == self.written[turn]

    @invariant()
    def gathering_never_moves_more_than_holes_have_cost(self):
        assert self.gathered_moves <= self.wasted + 2 * HOLE_COST * SLOTS


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class NoMemory:
    """Counts what it is asked to move."""

    def __init__(self):
        self.swaps, self.copies = [], []

    def swap(self, first, second, counts):
        self.swaps.append((first, second, tuple(counts)))

    def copy(self, source, target, count):
        self.copies.append((source, target, count))


@pytest.fixture
def memory():
    return NoMemory()


@pytest.fixture
def table(memory):
    return SlotTable(4, memory)


def run(table, turn, tokens, *, leave=True):
    cached = table.place(turn, tokens)
    table.extend(turn, tokens[cached:])
    if leave:
        table.release(turn)
    return cached


def test_a_follow_up_takes_the_slot_of_its_conversation(table, memory):
    run(table, 1, [1, 2, 3, 4])
    run(table, 2, [7, 8, 9])
    assert table.place(3, [1, 2, 3, 4, 5, 6]) == 4
    assert table.slot_of(3) == 0
    assert memory.copies == []


def test_the_prefix_of_a_running_turn_is_copied(table, memory):
    run(table, 1, [1, 2, 3, 4, 5], leave=False)
    assert table.place(2, [1, 2, 3, 9, 9]) == 3
    assert memory.copies == [(0, table.slot_of(2), 3)]


def test_a_short_common_beginning_does_not_cost_a_long_conversation_its_slot(table, memory):
    run(table, 1, [1, 2, *range(10, 40)])
    assert table.place(2, [1, 2, 5, 6, 7]) == 2
    assert table.slot_of(2) != 0
    assert len(table.held(0)) == 32


def test_without_a_prefix_the_least_recently_used_slot_is_taken(table):
    for turn in range(4):
        run(table, turn, [turn] * 5)
    run(table, 4, [0] * 6)  # slot 0 again
    table.place(5, [9, 9, 9])
    assert table.slot_of(5) == 1


def test_a_repeated_prompt_is_fed_its_last_two_tokens(table):
    run(table, 1, [1, 2, 3, 4])
    assert table.place(2, [1, 2, 3, 4]) == 2


def test_a_turn_waits_for_what_another_one_is_about_to_compute(table):
    prompt = list(range(100))
    table.place(1, prompt)
    assert table.should_wait(prompt)
    assert not table.should_wait(prompt[:10])
    table.extend(1, prompt[:90])
    assert not table.should_wait(prompt)
    assert table.place(2, prompt) == 90
    table.release(1)


def test_a_turn_does_not_wait_for_one_that_left(table):
    table.place(1, list(range(100)))
    table.release(1)
    assert not table.should_wait(list(range(100)))


def test_what_was_computed_one_by_one_is_not_shared(table):
    run(table, 1, [1, 2, 3], leave=False)
    for token in (4, 5, 6):
        table.extend(1, [token])
    assert table.place(2, [1, 2, 3, 4, 5, 6, 7, 8]) == 3
    table.release(1)
    assert table.place(3, [1, 2, 3, 4, 5, 6, 7, 8]) == 3


def test_nobody_waits_for_what_will_not_be_shared(table):
    prompt = list(range(100))
    table.place(1, prompt)
    table.extend(1, prompt[:1])
    assert not table.should_wait(prompt)


def test_a_hole_is_closed_once_it_has_cost_as_much_as_the_move(table, memory):
    for turn in range(3):
        run(table, turn, [turn] * 100, leave=False)
    table.release(1)  # 100 tokens at the edge and 100 in the hole: worth it after 200 / 64 steps
    results = [table.gather({0, 2}) for _ in range(5)]
    assert [len(members) for _, members in results] == [3, 3, 3, 2, 2]
    assert memory.swaps in ([(0, 1, (100, 100))], [(2, 1, (100, 100))])
    assert list(table.held(table.slot_of(0))) == [0] * 100
    assert list(table.held(table.slot_of(2))) == [2] * 100


def test_turns_beside_each_other_move_nothing(table, memory):
    for turn in range(4):
        run(table, turn, [turn] * 10, leave=False)
    table.release(0)
    assert table.gather({1, 2, 3}) == (1, [1, 2, 3])
    assert memory.swaps == []


def test_neighbours_stop_at_a_turn_that_is_not_among_those_asked_for(table):
    for turn in range(4):
        table.place(turn, [turn] * 3)
    assert table.neighbours(2, {0, 2, 3}) == [2, 3]
    assert table.neighbours(0, {0, 2, 3}) == [0]


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 700])
def test_common_prefixes_of_any_length_are_found(length):
    base = list(range(1000))
    assert common_prefix(base, [*base[:length], -1, *base]) == length
    assert common_prefix(base[:length], base) == length
