"""A second copy of an experiment on a storage target: targets below, parts, manifests, push and pull above them."""
