"""A program of somebody who uses Microsoft's SDK 2.2: list, load, ask. Run by another interpreter, without Cupola.

Arguments: catalog URL, cache folder, data folder, alias. Prints one JSON object.
"""

import json
import sys
import warnings

from foundry_local_sdk.configuration import Configuration
from foundry_local_sdk.foundry_local_manager import FoundryLocalManager

warnings.simplefilter("ignore", DeprecationWarning)
url, cache, data, alias = sys.argv[1:]
settings = Configuration(
    app_name="cupola-tests",
    app_data_dir=data,
    model_cache_dir=cache,
    catalog_urls=[(url, None)],
    disable_nonessential_telemetry=True,
)
FoundryLocalManager.initialize(settings)
manager = FoundryLocalManager.instance
catalog = manager.get_catalog()
model = catalog.get_model(alias)
report = {
    "listed": [each.id for each in catalog.list_models()],
    "cached": [each.id for each in catalog.get_cached_models()],
    "license": model.info.license,
    "context_length": model.info.context_length,
    "path": model.get_path(),
}
model.load()
client = model.get_chat_client()
client.settings.max_tokens, client.settings.temperature = 12, 0
report["answer"] = client.complete_chat([{"role": "user", "content": "What is 2+2?"}]).choices[0].message.content
model.unload()
manager.close()
print(json.dumps(report))
