"""The Responses API: /v1/responses with stored and background responses.

The model runs through `openai.turns`, as for chat completions; this package has the formats, events and the store.
"""
