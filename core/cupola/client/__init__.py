"""A client of the background service: find or start it, list models, download, load, chat and unload.

    from cupola.client import Client

    with Client() as cupola:
        cupola.download_model("smollm2-135m", progress=print)
        cupola.load_model("smollm2-135m")
        chat = cupola.openai_client().chat.completions
        print(chat.create(model="smollm2-135m", messages=[{"role": "user", "content": "Hello!"}]))

`AsyncClient` has the same methods as coroutines. Methods that Foundry Local's SDK also has (`FoundryLocalManager`, 0.5)
have the same names. The errors are in `cupola.errors`.
"""

from cupola.client.api import Download, LoadedModel
from cupola.client.asynchronous import AsyncClient
from cupola.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Download", "LoadedModel"]
