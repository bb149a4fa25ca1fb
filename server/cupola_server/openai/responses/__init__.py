"""POST /v1/responses and what belongs to it: stored responses, their input, deleting and cancelling them.

Called by the front-end's routes. Asking the model is `openai.answers`'; here are the shapes, the events and the store.
"""
