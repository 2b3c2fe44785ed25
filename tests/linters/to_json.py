"""Prints the documents of a YAML file as JSON. A key that stands twice is a fault: most readers would silently take the last."""

import json
import sys

import yaml


class Reader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value]
        twice = {str(name) for name in names if names.count(name) > 1}
        if twice:
            sys.exit(f"twice in one mapping: {', '.join(twice)}\n{node.start_mark}")
        return node


with open(sys.argv[1], encoding="utf-8") as file:
    json.dump(list(yaml.load_all(file, Reader)), sys.stdout)
