"""What the execution providers share: tokenizers, sampling and the kinds of session. Imported in workers alone."""
