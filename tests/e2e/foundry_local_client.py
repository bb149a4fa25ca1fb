"""A program of somebody who uses Microsoft's SDK 0.5 for Foundry Local. It knows nothing of Cupola.

Argument: an alias. Prints one JSON object as its last line. `foundry` is on PATH.
"""

import json
import sys
import time

import openai
from foundry_local import FoundryLocalManager
from foundry_local.logging import set_verbosity_info
from foundry_local.models import DeviceType

alias = sys.argv[1]
set_verbosity_info()  # which also shows the download's progress
report = {}


def failure(action, *arguments, **keywords):
    try:
        action(*arguments, **keywords)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


manager = FoundryLocalManager(bootstrap=False)
report["running_before"] = manager.is_service_running()
started = time.monotonic()
manager.start_service()
report["start_s"] = time.monotonic() - started
report["uri"], report["running"] = manager.service_uri, manager.is_service_running()

info = manager.get_model_info(alias)
report["listed"] = [model.id for model in manager.list_catalog_models()]
report["model"] = json.loads(info.model_dump_json())
report["cpu"] = manager.get_model_info(alias, device=DeviceType.CPU).id
report["by_name"] = manager.get_model_info(info.id.split(":")[0].upper()).id
report["unknown"] = failure(manager.get_model_info, "nothing", raise_on_not_found=True)
report["location"] = manager.get_cache_location()
report["cached_before"] = [model.id for model in manager.list_cached_models()]
report["load_before"] = failure(manager.load_model, alias)
report["upgradeable_before"] = manager.is_model_upgradeable(alias)

manager.download_model(alias)
report["cached"] = [model.id for model in manager.list_cached_models()]
report["upgradeable"] = manager.is_model_upgradeable(alias)
manager.download_model(alias)
manager.upgrade_model(alias)

report["loaded_before"] = [model.id for model in manager.list_loaded_models()]
manager.load_model(alias, ttl=300)
report["loaded"] = [model.id for model in manager.list_loaded_models()]

client = openai.OpenAI(base_url=manager.endpoint, api_key=manager.api_key)
question = [{"role": "user", "content": "What is 2+2?"}]
asked = {"model": info.id, "messages": question, "temperature": 0, "max_tokens": 40}
reply = client.chat.completions.create(**asked)
report["answer"], report["finish_reason"] = reply.choices[0].message.content, reply.choices[0].finish_reason
pieces = list(client.chat.completions.create(stream=True, **asked))
report["streamed"] = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
report["pieces"] = len(pieces)

manager.unload_model(alias, force=True)
report["loaded_after"] = [model.id for model in manager.list_loaded_models()]
another = FoundryLocalManager(alias)
report["bootstrapped"] = another.service_uri == manager.service_uri
report["loaded_by_bootstrap"] = [model.id for model in another.list_loaded_models()]
print(json.dumps(report))
