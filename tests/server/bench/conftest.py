import pytest

from cupola_server.bench.adapters import read_adapter

METADATA = """# /// script
# dependencies = ["nothing==1"]
# [tool.cupola-peer]
# title = "Somebody"
# variants = ["plain", "fancy"]
# own-interpreter = true
# speaks = "lines"
# ///
"""


@pytest.fixture
def write_adapter(tmp_path):
    """Write an adapter with this program, and read its metadata."""

    def write(program):
        path = tmp_path / "some_body.py"
        path.write_text(METADATA + program)
        return read_adapter(path)

    return write
