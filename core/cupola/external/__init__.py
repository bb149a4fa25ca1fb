"""Models elsewhere: services that speak OpenAI's API, offered as models of this one. The engine is the only caller.

They stand beside the workers. A front-end hands the engine one `GenerateRequest`, whoever answers it, and gets events.
That a service takes structured calls where a worker takes a rendered prompt is settled here, and in two events more.
"""
