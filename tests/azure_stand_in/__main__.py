"""`python -m azure_stand_in FOLDER NAME ALIAS`: serve a model's folder until killed; prints the address first.

Switches: POST /_stand_in/{fail,expire,down,uses,clear} with JSON, GET /_stand_in/state.
"""

import signal
import sys
from pathlib import Path

from azure_stand_in import AzureStandIn, Variant

folder, name, alias = sys.argv[1:4]
with AzureStandIn(Variant.of_folder(Path(folder), name, alias=alias), port=int((sys.argv[4:5] or ["0"])[0])) as azure:
    print(azure.url, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()
