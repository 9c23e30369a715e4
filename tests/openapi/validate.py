#!/usr/bin/env python3
"""Judges an OpenAPI document on standard input: each of its faults is a line, and none is status 0.

usage: validate.py [PREFIX]   (with the packages of requirements.txt on the path)

With PREFIX only the paths below it are judged: a server's document has its own, which are not ours.
"""

import json
import sys

from openapi_spec_validator import OpenAPIV30SpecValidator

document = json.load(sys.stdin)
if len(sys.argv) > 1:
    paths = {path: item for path, item in document["paths"].items() if path.startswith(sys.argv[1])}
    document["paths"] = paths
    # The schemas are the server's; those that a path of ours refers to have to be there.
    schemas = document["components"]["schemas"]
    used = json.dumps(paths)
    document["components"]["schemas"] = {name: schemas[name] for name in schemas if f"/{name}\"" in used}
if not document["paths"]:
    sys.exit("there is no path to judge")
faults = list(OpenAPIV30SpecValidator(document).iter_errors())
for fault in faults:
    print("/".join(str(part) for part in fault.absolute_path), fault.message)
sys.exit(1 if faults else 0)
