"""Checks bills of materials by the official schema of CycloneDX, and each licence as an SPDX expression."""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from cyclonedx.validation.json import JsonStrictValidator

faults = []
for file in sys.argv[1:]:
    text = pathlib.Path(file).read_text()
    for error in JsonStrictValidator(SchemaVersion.V1_6).validate_str(text, all_errors=True) or []:
        faults.append(f"{file}: {error.data.json_path}: {error.data.message}")
    document = json.loads(text)
    for component in [document["metadata"]["component"], *document["components"]]:
        licence = component["licenses"][0]["expression"]
        if not (licence and is_expression(licence)):
            faults.append(f"{file}: {component['purl']}: no SPDX expression: {licence!r}")
sys.exit("\n".join(faults) or 0)
