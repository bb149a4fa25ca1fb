"""Orders to a session, in any order: join, cancel, step. No order changes an answer."""

from hypothesis import strategies as st


def orders(kinds, *, most_tokens):
    """Draw an order; turns are of some kinds."""
    return st.one_of(
        st.tuples(st.just("join"), st.sampled_from(kinds), st.integers(1, most_tokens)),
        st.tuples(st.just("cancel"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 6), st.just(0)),
    )


def carry_out(session, turn_of_kind, expected, given_orders):
    """Carry orders out, then let all turns end; closes the session.

    Args:
        session: Who gets them.
        turn_of_kind: Makes a turn of its id, its kind and its most tokens.
        expected: By kind, what a turn says when it is alone.
        given_orders: As they were drawn.
    """
    driver = Driver(session, turn_of_kind, expected)
    for order, *arguments in given_orders:
        getattr(driver, order)(*arguments)
    driver.step(300, 0)
    assert not driver.active
    session.close()


class Driver:
    """Carries out orders and checks every answer against what the turn says when it is alone."""

    def __init__(self, session, turn_of_kind, expected):
        self.session, self.turn_of_kind, self.expected = session, turn_of_kind, expected
        self.active, self.count = {}, 0

    def join(self, kind, max_tokens):
        if len(self.active) < self.session.capacity:
            self.session.admit(self.turn_of_kind(self.count, kind, max_tokens))
            self.active[self.count] = (self.expected[kind][:max_tokens], [])
            self.count += 1

    def cancel(self, turn_id, _):
        self.session.cancel(turn_id)
        self.active.pop(turn_id, None)

    def step(self, times, _):
        for event in (event for _ in range(times) for event in self.session.step()):
            wanted, got = self.active[event.turn_id]
            got += event.tokens
            assert got == wanted[: len(got)]
            if event.finish:
                assert got == wanted
                del self.active[event.turn_id]
