"""The service from Python: find or start it, look through catalogs, download, load, chat, unload.

    from cupola.client import Client

    with Client() as cupola:
        cupola.download_model("smollm2-135m", progress=print)
        cupola.load_model("smollm2-135m")
        chat = cupola.openai_client().chat.completions
        print(chat.create(model="smollm2-135m", messages=[{"role": "user", "content": "Hello!"}]))

`AsyncClient` is the same with `await`. Methods that Foundry Local's SDK (`FoundryLocalManager`, 0.5) has as well are
called the same.
"""

from cupola.client.api import Download, LoadedModel
from cupola.client.asynchronous import AsyncClient
from cupola.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Download", "LoadedModel"]
