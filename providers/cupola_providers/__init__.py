"""Built-in execution providers. Their code runs in worker processes; modules here import no runtime at the top."""
