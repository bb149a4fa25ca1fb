"""External models: models of OpenAI-compatible services that are listed next to local ones. Only the engine uses it.

Front-ends pass a `GenerateRequest` to the engine and receive events, whether a worker or an external service runs it.
External services get structured tools where workers get a rendered prompt, and two further events carry their calls
and reasoning.
"""
