"""Random prompts: the same seed makes the same prompts, on every machine.

A case is a list of request bodies that are posted one after another. Most graphs run; some are damaged on purpose. The
classes are those of ComfyUI's execution testing pack and a few of its stock nodes.
"""

import copy
import random

COMPARE = ["==", "!=", "<", ">", "<=", ">="]
STRING_COMPARE = ["a == b", "a != b", "a IN b", "a MATCH REGEX(b)", "a BEGINSWITH b", "a ENDSWITH b"]
WORDS = ["", "a", "ab", "Ab", "b", "x y", "é", "[", "a+"]
QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]
STYLES = [
    lambda n: str(n),
    lambda n: str(n),
    lambda n: str(100 - n),
    lambda n: f"node {n}",
    lambda n: f"{n}.0.{n}",
    lambda n: f"{n}:{n % 3}",
    lambda n: f"ü{n}",
]
# What a graph is mostly made of; `None` stands for everything that does not wait.
PROFILES = ["images", "lists", "lazy", "loops", "expansions", "blockers", "values", "all", "all", "invalid", "invalid", "targets", "async"]
SPREADING = ("TestMakeListNode", "TestAccumulationToListNode", "RebatchImages")
# The sides of images; nodes of the testing pack that make images themselves make 512 x 512.
SMALL, LARGE = "small", "large"


class Graph:
    """A prompt under construction."""

    def __init__(self, rng, profile):
        self.rng = rng
        self.profile = profile
        self.nodes = {}
        self.slots = []  # (type, size, id, slot, wild)
        self.lists = {}  # nodes whose outputs may hold several values
        self.style = rng.choice(STYLES)
        self.side = rng.choice([1, 4, 6])
        self.depth = 0

    def add(self, class_type, inputs, outputs, size=SMALL):
        """A node; `outputs` are its types, `*T` one declared as a wildcard that carries a T."""
        node = self.style(len(self.nodes) + 1)
        if self.rng.random() < 0.15:
            items = list(inputs.items())
            self.rng.shuffle(items)
            inputs = dict(items)
        self.nodes[node] = {"class_type": class_type, "inputs": inputs}
        sources = [value[0] for value in inputs.values() if isinstance(value, list)]
        if class_type in SPREADING or any(source in self.lists for source in sources):
            self.lists[node] = True
        for slot, output in enumerate(outputs):
            if output:
                self.slots.append((output.lstrip("*"), size, node, slot, output.startswith("*")))
        return node

    def classes(self):
        return {node["class_type"] for node in self.nodes.values()}

    def find(self, wanted, size=SMALL, wild=None):
        fitting = [s for s in self.slots if s[0] == wanted and (wanted not in ("IMAGE", "MASK") or s[1] == size) and (wild is None or s[4] == wild)]
        if not fitting:
            return None
        # Late ones are more likely, so that graphs become deep.
        return fitting[-1 - min(int(self.rng.expovariate(0.5)), len(fitting) - 1)]

    def link(self, wanted, size=SMALL):
        """A link to an output of a type, of a new node if need be."""
        found = self.find(wanted, size) if self.rng.random() < 0.75 or self.depth > 5 else None
        if found is None:
            self.depth += 1
            self.produce(wanted, size)
            self.depth -= 1
            found = self.find(wanted, size)
        return [found[2], found[3]]

    def number(self, wanted, constant, share=0.3):
        return self.link(wanted) if self.rng.random() < share and self.depth < 4 else constant

    def likes(self, *profiles):
        return 6 if self.profile in profiles else (1 if self.profile in ("all", "targets", "invalid") else 0.15)

    def single(self, wanted):
        """A link to an output that holds one value. ComfyUI mixes the outputs of an expansion up when one is a list."""
        link = self.link(wanted)
        if link[0] in self.lists:
            self.leaf(wanted)
            found = self.slots[-1]
            link = [found[2], found[3]]
        return link

    def produce(self, wanted, size=SMALL):
        if self.depth > 4:
            return self.leaf(wanted, size)
        makers = {
            "IMAGE": self.image if size == SMALL else self.large_image,
            "MASK": self.mask,
            "FLOAT": self.float,
            "INT": self.int,
            "BOOLEAN": self.boolean,
            "ACCUMULATION": self.accumulation,
        }
        makers[wanted]()

    def leaf(self, wanted, size=SMALL):
        rng = self.rng
        side = {"height": self.side, "width": self.side, "batch_size": rng.choice([1, 1, 1, 2])} if size == SMALL else {"height": 512, "width": 512, "batch_size": 1}
        if wanted == "IMAGE":
            if rng.random() < 0.5:
                self.add("StubImage", {"content": rng.choice(["WHITE", "BLACK"]), **side}, ["IMAGE"], size)
            else:
                self.add("StubConstantImage", {"value": rng.choice(QUARTERS), **side}, ["IMAGE"], size)
        elif wanted == "MASK":
            self.add("StubMask", {"value": rng.choice(QUARTERS), **side, "batch_size": 1}, ["MASK"], size)
        elif wanted == "FLOAT":
            self.add("StubFloat", {"value": rng.choice(QUARTERS)}, ["FLOAT"])
        elif wanted == "INT":
            self.add("StubInt", {"value": rng.randint(0, 4)}, ["INT"])
        elif wanted == "BOOLEAN":
            self.add("TestIntConditions", {"a": rng.randint(0, 3), "b": rng.randint(0, 3), "operation": rng.choice(COMPARE)}, ["BOOLEAN"])
        else:
            self.add("TestAccumulateNode", {"to_add": self.anything()}, ["ACCUMULATION"])

    def anything(self):
        """A link for an input of any type."""
        wanted = self.rng.choice(["IMAGE", "IMAGE", "FLOAT", "INT", "MASK"])
        return self.link(wanted)

    def choose(self, options):
        weights = [weight for weight, _ in options]
        self.rng.choices([make for _, make in options], weights)[0]()

    # Makers, one per type.

    def image(self):
        self.choose([
            (2, lambda: self.leaf("IMAGE")),
            (1, lambda: self.add("EmptyImage", {"width": self.side, "height": self.side, "batch_size": 1, "color": self.number("INT", self.rng.choice([0, 255, 65280, 16777215, 8421504]))}, ["IMAGE"])),
            (1, lambda: self.add("StubConstantImage", {"value": self.link("FLOAT"), "height": self.side, "width": self.side, "batch_size": 1}, ["IMAGE"])),
            (2, lambda: self.add("ImageInvert", {"image": self.link("IMAGE")}, ["IMAGE"])),
            (1, lambda: self.add("ImageBatch", {"image1": self.link("IMAGE"), "image2": self.link("IMAGE")}, ["IMAGE"])),
            (2, self.average),
            (1, lambda: self.add("MaskToImage", {"mask": self.link("MASK")}, ["IMAGE"])),
            (1, lambda: self.add("TestCustomIsChanged", {"image": self.link("IMAGE"), "should_change": self.rng.random() < 0.4}, ["IMAGE"])),
            (1, lambda: self.add("TestIsChangedWithConstants", {"image": self.link("IMAGE"), "value": self.number("FLOAT", self.rng.choice(QUARTERS))}, ["IMAGE"])),
            (1, lambda: self.add("TestOutputNodeWithSocketOutput", {"image": self.link("IMAGE"), "value": self.number("FLOAT", self.rng.choice(QUARTERS))}, ["IMAGE"])),
            (2 * self.likes("lazy"), self.lazy_mix),
            (self.likes("lists"), lambda: self.add("RebatchImages", {"images": self.link("IMAGE"), "batch_size": self.rng.randint(1, 3)}, ["IMAGE"])),
            (2 * self.likes("lists"), lambda: self.make_list("IMAGE")),
            (2 * self.likes("blockers"), lambda: self.blocker("IMAGE")),
            (self.likes("lists"), lambda: self.item("IMAGE")),
            (2 * self.likes("loops"), self.for_loop),
            (2 * self.likes("loops"), self.while_loop),
            (3 * (self.profile == "async"), self.waiting),
        ])

    def large_image(self):
        self.choose([
            (1, lambda: self.leaf("IMAGE", LARGE)),
            (1, lambda: self.add("ImageInvert", {"image": self.link("IMAGE", LARGE)}, ["IMAGE"], LARGE)),
            # One of them: equal nodes of two expansions share a result here, and only with an LRU cache in ComfyUI.
            (2 * self.likes("expansions") * ("TestMixedExpansionReturns" not in self.classes()), lambda: self.add("TestMixedExpansionReturns", {"input1": self.number("FLOAT", self.rng.choice([0.1, 0.2, 0.3]), 0.6)}, ["IMAGE", "IMAGE"], LARGE)),
            (1, self.custom_validation),
            (self.likes("lazy"), lambda: self.add("TestAsyncLazyCheck", {"input1": self.anything(), "input2": self.anything(), "condition": self.number("BOOLEAN", self.rng.random() < 0.5)}, ["IMAGE"], LARGE)),
            (self.likes("expansions") * 0.5, lambda: self.add("TestDynamicDependencyCycle", {"input1": self.link("IMAGE", LARGE), "input2": self.link("IMAGE", LARGE)}, ["IMAGE"], LARGE)),
            (1, lambda: self.add(*self.rng.choice([("TestAsyncValidation", {"value": self.rng.choice([2.5, 5.0, 20.0]), "threshold": 10.0}), ("TestAsyncValidationError", {"value": self.rng.choice([2.5, 5.0, 20.0]), "max_value": 10.0})]), ["IMAGE"], LARGE)),
        ])

    def custom_validation(self):
        which = self.rng.randint(1, 5)
        values = [self.rng.choice([0.25, 0.5, 1.0]) for _ in range(2)]
        if which == 5 and self.rng.random() < 0.3:
            values[self.rng.randint(0, 1)] = self.rng.choice([7.0, 5.0])
        inputs = {f"input{index + 1}": self.number("FLOAT", value) for index, value in enumerate(values)}
        self.add(f"TestCustomValidation{which}", inputs, ["IMAGE"], LARGE)

    def average(self):
        # ComfyUI does not validate undeclared inputs, so in a damaged graph there is none.
        count = 1 if self.profile == "invalid" else self.rng.choice([2, 2, 4])
        self.add("TestVariadicAverage", {f"input{n + 1}": self.link("IMAGE") for n in range(count)}, ["IMAGE"])

    def lazy_mix(self):
        inputs = {"image1": self.link("IMAGE"), "image2": self.link("IMAGE"), "mask": self.link("MASK")}
        self.add("TestLazyMixImages", inputs, ["IMAGE"])

    def make_list(self, wanted):
        count = self.rng.randint(1, 4)
        names = sorted(self.rng.sample(range(2, 10), count - 1))
        inputs = {f"value{n}": self.link(wanted) for n in [1, *names]}
        self.add("TestMakeListNode", inputs, [f"*{wanted}"])

    def blocker(self, wanted):
        block = self.number("BOOLEAN", self.rng.random() < 0.6)
        self.add("TestExecutionBlocker", {"input": self.link(wanted), "block": block, "verbose": self.rng.random() < 0.5}, [f"*{wanted}"])

    def item(self, wanted):
        """A value put into an accumulation and taken out again, in one of several ways."""
        items = [self.link(wanted) for _ in range(self.rng.randint(1, 3))]
        accumulation = None
        for link in items:
            inputs = {"to_add": link, **({"accumulation": [accumulation, 0]} if accumulation else {})}
            accumulation = self.add("TestAccumulateNode", inputs, ["ACCUMULATION"])
        if self.rng.random() < 0.3:
            accumulation = self.add("TestAccumulationSetItemNode", {"accumulation": [accumulation, 0], "index": self.rng.randint(-1, len(items) - 1), "value": self.link(wanted)}, ["ACCUMULATION"])
        self.choose([
            (2, lambda: self.add("TestAccumulationToListNode", {"accumulation": [accumulation, 0]}, [f"*{wanted}"])),
            (1, lambda: self.add("TestAccumulationGetItemNode", {"accumulation": [accumulation, 0], "index": self.rng.randint(-1, len(items) - 1)}, [f"*{wanted}"])),
            (1, lambda: self.add("TestAccumulationHeadNode", {"accumulation": [accumulation, 0]}, [None, f"*{wanted}"])),
        ])
        if not self.find(wanted):
            self.leaf(wanted)

    def body(self, link):
        for _ in range(self.rng.randint(1, 2)):
            kind = self.rng.randint(0, 3)
            if kind == 0:
                node = self.add("ImageInvert", {"image": link}, [])
            elif kind == 1:
                node = self.add("TestVariadicAverage", {"input1": link, "input2": self.single("IMAGE")}, [])
            elif kind == 2:
                node = self.add("TestIsChangedWithConstants", {"image": link, "value": self.rng.choice(QUARTERS)}, [])
            else:
                node = self.add("TestExecutionBlocker", {"input": link, "block": False, "verbose": False}, [])
            link = [node, 0]
        return link

    def for_loop(self):
        if self.depth > 2 or not self.may_loop():
            return self.leaf("IMAGE")
        opening = self.add("TestForLoopOpen", {"remaining": self.rng.randint(1, 3), "initial_value1": self.single("IMAGE")}, [])
        self.depth += 3
        body = self.body([opening, 2])
        self.depth -= 3
        self.add("TestForLoopClose", {"flow_control": [opening, 0], "initial_value1": body}, ["*IMAGE"])

    def may_loop(self):
        """A damaged loop might never end, and ComfyUI's events grow with the square of the rounds."""
        loops = sum(node["class_type"].endswith("LoopOpen") for node in self.nodes.values())
        return self.profile != "invalid" and loops < 2

    def while_loop(self):
        if self.depth > 2 or not self.may_loop():
            return self.leaf("IMAGE")
        count = self.add("StubInt", {"value": self.rng.randint(1, 3)}, [])
        opening = self.add("TestWhileLoopOpen", {"condition": True, "initial_value0": [count, 0], "initial_value1": self.single("IMAGE")}, [])
        left = self.add("TestIntMathOperation", {"a": [opening, 1], "b": 1, "operation": "subtract"}, [])
        more = self.add("TestIntConditions", {"a": [left, 0], "b": 0, "operation": ">"}, [])
        self.depth += 3
        body = self.body([opening, 2])
        self.depth -= 3
        self.add("TestWhileLoopClose", {"flow_control": [opening, 0], "condition": [more, 0], "initial_value0": [left, 0], "initial_value1": body}, [None, "*IMAGE"])

    def waiting(self):
        seconds = self.rng.choice([0.0, 0.02, 0.05])
        self.choose([
            (3, lambda: self.add("TestSleep", {"value": self.link("IMAGE"), "seconds": seconds}, ["*IMAGE"])),
            (1, lambda: self.add("TestAsyncTimeout", {"value": self.link("IMAGE"), "timeout": 5.0, "operation_time": 0.1}, ["*IMAGE"])),
            (1, lambda: self.add("TestAsyncBatchProcessing", {"images": self.link("IMAGE"), "process_time_per_item": 0.01}, ["IMAGE"])),
            (1, lambda: self.add("TestDynamicAsyncGeneration", {"image1": self.link("IMAGE"), "image2": self.link("IMAGE"), "num_async_nodes": self.rng.randint(1, 3), "sleep_duration": 0.1}, ["IMAGE"])),
            (1, lambda: self.add("TestParallelSleep", {**{f"image{n}": self.link("IMAGE") for n in (1, 2, 3)}, **{f"sleep{n}": 0.02 for n in (1, 2, 3)}}, ["IMAGE"])),
        ])

    def mask(self):
        self.choose([
            (2, lambda: self.leaf("MASK")),
            (1, lambda: self.add("StubMask", {"value": self.link("FLOAT"), "height": self.side, "width": self.side, "batch_size": 1}, ["MASK"])),
            (1, lambda: self.add("InvertMask", {"mask": self.link("MASK")}, ["MASK"])),
            (1, lambda: self.add("ImageToMask", {"image": self.link("IMAGE"), "channel": self.rng.choice(["red", "green", "blue"])}, ["MASK"])),
        ])

    def float(self):
        self.choose([
            (2, lambda: self.leaf("FLOAT")),
            (2 * self.likes("lists"), lambda: self.make_list("FLOAT")),
            (self.likes("blockers"), lambda: self.blocker("FLOAT")),
            (self.likes("lists"), lambda: self.item("FLOAT")),
        ])

    def int(self):
        operation = self.rng.choice(["add", "subtract", "multiply", "divide", "modulo"])
        self.choose([
            (2, lambda: self.leaf("INT")),
            (2, lambda: self.add("TestIntMathOperation", {"a": self.number("INT", self.rng.randint(-3, 5)), "b": self.number("INT", self.rng.randint(0, 3)), "operation": operation}, ["INT"])),
            (0.5, lambda: self.add("TestIntMathOperation", {"a": self.rng.randint(-3, 5), "b": self.rng.randint(0, 20), "operation": "power"}, ["INT"])),
            (self.likes("lists"), lambda: self.add("TestAccumulationGetLengthNode", {"accumulation": self.link("ACCUMULATION")}, ["INT"])),
            (self.likes("lists"), lambda: self.make_list("INT")),
            (self.likes("blockers"), lambda: self.blocker("INT")),
        ])

    def boolean(self):
        flag = lambda: self.number("BOOLEAN", self.rng.random() < 0.5)
        words = lambda: self.rng.choice(WORDS)
        self.choose([
            (2, lambda: self.add("TestIntConditions", {"a": self.number("INT", self.rng.randint(0, 3)), "b": self.number("INT", 1), "operation": self.rng.choice(COMPARE)}, ["BOOLEAN"])),
            (1, lambda: self.add("TestFloatConditions", {"a": self.number("FLOAT", 0.5), "b": self.rng.choice(QUARTERS), "operation": self.rng.choice(COMPARE)}, ["BOOLEAN"])),
            (1, lambda: self.add("TestStringConditions", {"a": words(), "b": words(), "operation": self.rng.choice(STRING_COMPARE), "case_sensitive": self.rng.random() < 0.5}, ["BOOLEAN"])),
            (1, lambda: self.add("TestBoolOperationNode", {"a": flag(), "b": flag(), "op": self.rng.choice(["a AND b", "a OR b", "a XOR b", "NOT a"])}, ["BOOLEAN"])),
            (1, self.to_bool),
        ])

    def to_bool(self):
        found = self.find("IMAGE", wild=True) or self.find("INT", wild=True)
        if found is None:
            return self.leaf("BOOLEAN")
        self.add("TestToBoolNode", {"value": [found[2], found[3]], **({"invert": True} if self.rng.random() < 0.3 else {})}, ["BOOLEAN"])

    def accumulation(self):
        self.choose([
            (2, lambda: self.leaf("ACCUMULATION")),
            (1, lambda: self.add("TestAccumulateNode", {"to_add": self.anything(), "accumulation": self.link("ACCUMULATION")}, ["ACCUMULATION"])),
            (1, lambda: self.add("TestAccumulationTailNode", {"accumulation": self.link("ACCUMULATION")}, ["ACCUMULATION", None])),
        ])

    def output(self):
        size = LARGE if self.rng.random() < (0.6 if self.profile == "expansions" else 0.12) else SMALL
        link = self.link("IMAGE", size)
        kind = self.rng.choices(["PreviewImage", "SaveImage", "TestOutputNodeWithSocketOutput"], [6, 2, 2])[0]
        if kind == "PreviewImage":
            self.add(kind, {"images": link}, [])
        elif kind == "SaveImage":
            self.add(kind, {"images": link, "filename_prefix": self.rng.choice(["a", "sub/b"])}, [])
        else:
            self.add(kind, {"image": link, "value": self.rng.choice(QUARTERS)}, ["IMAGE"], size)


def build(rng, profile):
    graph = Graph(rng, profile)
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        if rng.random() < 0.6:
            graph.produce(rng.choice(["IMAGE", "IMAGE", "MASK", "INT", "FLOAT", "BOOLEAN"]))
        graph.output()
    # Something that no output needs.
    if rng.random() < 0.3:
        graph.produce("IMAGE")
    nodes = graph.nodes
    if rng.random() < 0.25:
        items = list(nodes.items())
        rng.shuffle(items)
        nodes = dict(items)
    return nodes


# What is wrong with a damaged prompt: each takes a random place and does one thing to it.

ODD_VALUES = ["abc", "12", " 7 ", "1.5", 3, 1.5, -1, True, None, {}, {"a": 1}, {"__value__": 2}, {"__value__": [1, 2]}, {"__value__": ["1", 0]}, [], ["1"], ["1", 0, 0], [["1", 0]], 2**40, "", "-5"]
ODD_SLOTS = [-1, -2, 1, 9, 0.0, 0.5, "0", None, [0]]
BOUNDED = [("StubConstantImage", "value", [-0.5, 1.5, "2", 7]), ("StubMask", "value", [-1, 2.0]), ("StubImage", "height", [0, -3, "0"]), ("StubImage", "content", ["GREY", "", None, 5, "white"]), ("TestIntMathOperation", "operation", ["root", None]), ("TestIsChangedWithConstants", "value", [11.0, -0.1]), ("EmptyImage", "width", [0, 99999]), ("TestCustomValidation5", "input2", [7.0, 5.0])]


def places(prompt, links):
    found = []
    for node, content in prompt.items():
        for name, value in content.get("inputs", {}).items():
            if isinstance(value, list) == links:
                found.append((content["inputs"], name, node))
    return found


def damage(rng, prompt):
    kind = "no inputs" if rng.random() < 0.02 else rng.choice(["drop", "odd value", "odd value", "odd link", "slot", "slot", "missing node", "swap", "swap", "bounds", "bounds", "class", "no class", "extra", "cycle", "outputs", "numeric id"])
    links, constants = places(prompt, True), places(prompt, False)
    nodes = list(prompt)
    if kind == "drop" and links + constants:
        inputs, name, _ = rng.choice(links + constants)
        inputs.pop(name, None)
    elif kind == "odd value" and constants:
        inputs, name, _ = rng.choice(constants)
        inputs[name] = copy.deepcopy(rng.choice(ODD_VALUES))
    elif kind == "odd link" and links:
        inputs, name, _ = rng.choice(links)
        inputs[name] = copy.deepcopy(rng.choice(ODD_VALUES))
    elif kind == "slot" and links:
        inputs, name, _ = rng.choice(links)
        inputs[name] = [inputs[name][0], copy.deepcopy(rng.choice(ODD_SLOTS))]
    elif kind == "missing node" and links:
        inputs, name, _ = rng.choice(links)
        inputs[name] = ["nowhere", 0]
    elif kind == "numeric id" and links:
        inputs, name, _ = rng.choice(links)
        inputs[name] = [7, 0]
    elif kind == "swap" and links:
        inputs, name, _ = rng.choice(links)
        inputs[name] = [rng.choice(nodes), 0]
    elif kind == "cycle" and links:
        inputs, name, node = rng.choice(links)
        inputs[name] = [rng.choice([node, nodes[-1]]), 0]
    elif kind == "bounds":
        fitting = [(content["inputs"], name, values) for content in prompt.values() for class_type, name, values in BOUNDED if content.get("class_type") == class_type and "inputs" in content]
        if fitting:
            inputs, name, values = rng.choice(fitting)
            inputs[name] = rng.choice(values)
    elif kind == "class":
        prompt[rng.choice(nodes)]["class_type"] = rng.choice(["NoSuchClass", "ImageInvert", "StubInt", "PreviewImage", ""])
    elif kind == "no class":
        prompt[rng.choice(nodes)].pop("class_type", None)
    elif kind == "no inputs":
        prompt[rng.choice(nodes)].pop("inputs", None)
    elif kind == "extra":
        content = prompt[rng.choice(nodes)]
        if "inputs" in content:
            content["inputs"][rng.choice(["extra", "input9", "unique_id", "_"])] = copy.deepcopy(rng.choice([1, "x", None, {"deep": [1, {"er": []}]}]))
    elif kind == "outputs":
        for node in [n for n in nodes if prompt[n].get("class_type") in ("PreviewImage", "SaveImage", "TestOutputNodeWithSocketOutput")]:
            del prompt[node]


def renamed(rng, prompt):
    names = {node: f"r{index}" for index, node in enumerate(prompt)}
    result = {}
    for node, content in prompt.items():
        content = copy.deepcopy(content)
        for name, value in content.get("inputs", {}).items():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
                content["inputs"][name] = [names.get(value[0], value[0]), value[1]]
        result[names[node]] = content
    return result


def changed(rng, prompt):
    """The same graph with one setting changed."""
    prompt = copy.deepcopy(prompt)
    # The arithmetic of a loop stays, or it might never end.
    fitting = [place for place in places(prompt, False) if type(place[0][place[1]]) in (int, float, bool) and prompt[place[2]].get("class_type") not in ("TestIntMathOperation", "TestIntConditions", "TestWhileLoopOpen")]
    if fitting:
        inputs, name, _ = rng.choice(fitting)
        value = inputs[name]
        if isinstance(value, bool):
            inputs[name] = not value
        elif isinstance(value, float):
            inputs[name] = rng.choice(QUARTERS)
        elif name not in ("height", "width", "batch_size"):
            inputs[name] = rng.randint(1, 3)
    return prompt


def next_prompt(rng, profile, prompt):
    kind = rng.choice(["same", "same", "changed", "changed", "changed", "renamed", "fewer", "reordered"])
    if kind == "changed":
        return changed(rng, prompt)
    if kind == "renamed":
        return renamed(rng, prompt)
    prompt = copy.deepcopy(prompt)
    if kind == "fewer":
        used = {value[0] for inputs, name, _ in places(prompt, True) for value in [inputs[name]] if value and isinstance(value[0], str)}
        loose = [node for node in prompt if node not in used]
        if len(loose) > 1:
            del prompt[rng.choice(loose)]
    if kind == "reordered":
        items = list(prompt.items())
        rng.shuffle(items)
        prompt = dict(items)
    return prompt


def case(seed):
    """The bodies of one case, and what it is mostly about."""
    rng = random.Random(seed)
    profile = PROFILES[seed % len(PROFILES)]
    prompt = build(rng, profile)
    bodies = []
    for step in range(rng.choice([1, 2, 2, 3])):
        if step:
            prompt = next_prompt(rng, profile, prompt)
        body = {"prompt": copy.deepcopy(prompt)}
        if profile == "invalid" and rng.random() < 0.8:
            for _ in range(rng.choice([1, 1, 2, 3])):
                damage(rng, body["prompt"])
        if profile == "targets" and rng.random() < 0.8:
            nodes = list(prompt)
            body["partial_execution_targets"] = rng.sample(nodes, rng.randint(0, min(3, len(nodes)))) + rng.choice([[], [], ["nowhere"]])
        bodies.append(body)
    return profile, bodies
