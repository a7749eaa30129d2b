"""For a ComfyUI that is recorded: it goes through outputs and inputs in the order in which they were written.

ComfyUI keeps them in hash sets, so their order is random per process, and so is everything that follows from it (which
output runs first, which errors come first). This replaces `set` inside of its module `execution` by one that remembers
the order of insertion. Nothing else is changed. Put this folder into `custom_nodes`.
"""

import execution


class OrderedSet(dict):
    def __init__(self, items=()):
        super().__init__((item, None) for item in items)

    def add(self, item):
        self[item] = None

    def union(self, *others):
        return OrderedSet([*self, *(item for other in others for item in other)])


execution.set = OrderedSet

NODE_CLASS_MAPPINGS = {}
