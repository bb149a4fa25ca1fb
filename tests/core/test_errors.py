import copy
import dataclasses
import pickle

import msgspec
import pytest

from cupola import errors
from cupola.errors import CupolaError, WireError, WorkerError, from_wire, to_wire

every = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CupolaError)]
SAMPLES = {"str": "sample", "int": 3, "float": 2.5}


def sample(kind):
    return kind(**{field.name: SAMPLES[field.type.__name__] for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", [kind for kind in every if kind is not CupolaError])
def test_an_error_survives_the_trip_between_processes(kind):
    error = sample(kind)
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(to_wire(error)), type=WireError)
    back = from_wire(wire)
    assert type(back) is kind
    assert str(back) == str(error)
    assert str(copy.copy(error)) == str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_error_that_only_the_worker_knows_keeps_its_text():
    error = from_wire(WireError("SomeoneElsesError", {"detail": "the fan stopped"}))
    assert isinstance(error, WorkerError)
    assert "the fan stopped" in str(error)


@pytest.mark.parametrize("kind", every)
def test_every_error_stands_in_the_tree_at_its_place(kind):
    lines = errors.__doc__.splitlines()
    depth = {name.strip("│├└─ ").split()[0]: name.index(name.strip("│├└─ ")[0]) for name in lines if "Error" in name}
    parent = kind.__mro__[1].__name__
    assert kind.__name__ in depth
    assert kind is CupolaError or depth[kind.__name__] > depth[parent]
