"""What `stoker inspect` says of a model's tensors, by name."""

import json
import subprocess


def model_tensors(stoker, model):
    shown = subprocess.run([stoker, "inspect", model, "--json", "--tensors"], check=True,
                           capture_output=True, text=True)
    return {tensor["name"]: tensor for tensor in json.loads(shown.stdout)["tensors"]}
