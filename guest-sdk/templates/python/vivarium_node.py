"""What the nodes of this pack are written against: from classes in Python to the interface in `wit/`.

A node is a class with `inputs`, `outputs` and a method `run`. Tensors live in the host; `wit_world.imports.tensors` has their
operations, which mean what PyTorch's of the same name mean. Every call runs in a fresh instance: nothing that is kept in a
variable survives it.
"""

import json
from dataclasses import dataclass, field

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import nodes as wit
from wit_world.imports import tensors, types, values
from wit_world.imports.tensors import BinaryOp, Operand_Scalar, Operand_Tensor, Tensor


class NodeError(Exception):
    """Stops a node; the user reads the message."""

    def __init__(self, message, kind=types.ErrorKind.FAILED):
        super().__init__(message)
        self.kind = kind


@dataclass
class Input:
    """One input. `options` are ComfyUI's: default, min, max, step, tooltip, multiline, lazy, …"""

    name: str
    type: str
    section: str = "required"
    choices: list = field(default_factory=list)
    options: dict = field(default_factory=dict)

    def definition(self):
        return {"name": self.name, "type": self.type, "section": self.section, "choices": self.choices, "options": self.options}


@dataclass
class Output:
    """One output slot."""

    type: str
    name: str = ""
    is_list: bool = False

    def definition(self):
        return {"type": self.type, "name": self.name or self.type, "is_list": self.is_list}


@dataclass
class Blocked:
    """Put into an output, it stops every node behind it; with a message, the user is told."""

    message: str | None = None


@dataclass
class Link:
    """In the outputs of an expansion: the output of a new node."""

    node: str
    slot: int = 0


@dataclass
class Ui:
    """Outputs, and what user interfaces show beside the node: every entry is a list."""

    ui: dict
    outputs: tuple = ()


@dataclass
class Expansion:
    """New nodes in ComfyUI's prompt format, and where the outputs come from."""

    graph: dict
    outputs: tuple


class Node:
    """Base of a node class."""

    class_type: str
    display_name = ""
    category = ""
    inputs: list[Input] = []
    outputs: list[Output] = []
    output_node = False
    input_is_list = False

    def run(self, **inputs):
        """The outputs: one value, a tuple, `Ui`, `Expansion` or `Blocked`."""
        raise NotImplementedError

    # A node may define these too:
    #   validate(self, inputs: dict, types: dict) -> list[(input or None, message)]
    #   fingerprint(self, inputs: dict) -> any JSON, or NaN to run every time
    #   needed_inputs(self, **inputs) -> list[str], the lazy inputs that it needs next

    @classmethod
    def definition(cls):
        definition = {
            "class_type": cls.class_type,
            "display_name": cls.display_name or cls.class_type,
            "description": (cls.__doc__ or "").strip(),
            "category": cls.category,
            "inputs": [one.definition() for one in cls.inputs],
            "outputs": [one.definition() for one in cls.outputs],
            "output_node": cls.output_node,
            "input_is_list": cls.input_is_list,
            "has_fingerprint": hasattr(cls, "fingerprint"),
            "has_needed_inputs": hasattr(cls, "needed_inputs"),
        }
        if hasattr(cls, "validate"):
            definition["validator"] = {"all_inputs": True}
        return definition


def create_object(type_name, state):
    """Lends something to other packs; `pack(objects=…)` says who answers its methods."""
    return values.Object.create(type_name, _to_wit(state))


def call_object(thing, method, **arguments):
    """Calls a method of an object, whichever pack made it."""
    return _from_wit(thing.call(method, _to_wit(arguments)))


def multiply(tensor, other):
    """tensor · other, where other is a number or a tensor."""
    operand = Operand_Tensor(other) if isinstance(other, Tensor) else Operand_Scalar(float(other))
    return tensor.binary(BinaryOp.MUL, operand)


def pack(name, version, publisher, description, nodes, license="", permissions=(), objects=None):
    """The export of the component: `Nodes = pack(…)` in `app.py`."""
    classes = {cls.class_type: cls for cls in nodes}
    methods = objects or {}

    class Nodes(exports.Nodes):
        def describe(self):
            return json.dumps({
                "name": name,
                "version": version,
                "publisher": publisher,
                "description": description,
                "license": license,
                "permissions": [{"permission": one, "reason": reason} for one, reason in permissions],
                "nodes": [cls.definition() for cls in nodes],
            })

        def validate(self, class_, inputs, input_types):
            findings = _told(lambda: _node(classes, class_).validate(_from_wit(inputs), json.loads(input_types)))
            return [wit.Finding(one, message) for one, message in findings]

        def fingerprint(self, class_, inputs):
            return json.dumps(_told(lambda: _node(classes, class_).fingerprint(_from_wit(inputs))))

        def needed_inputs(self, class_, inputs):
            node = _told(lambda: _node(classes, class_))
            if not hasattr(node, "needed_inputs"):
                return []
            return list(_told(lambda: node.needed_inputs(**_from_wit(inputs))))

        def execute(self, class_, inputs):
            return _told(lambda: _outcome(_node(classes, class_).run(**_from_wit(inputs))))

        def call(self, type_name, method, state, arguments):
            def run():
                if type_name not in methods:
                    raise NodeError(f"this pack makes no objects of type {type_name}", types.ErrorKind.NOT_FOUND)
                return _to_wit(methods[type_name](_from_wit(state), method, _from_wit(arguments)))
            return _told(run)

    return Nodes


def _node(classes, class_type):
    if class_type not in classes:
        raise NodeError(f"this pack has no node class {class_type}", types.ErrorKind.NOT_FOUND)
    return classes[class_type]()


def _told(run):
    """Errors of the host go on as they are; what else is raised becomes a sentence."""
    try:
        return run()
    except Err:
        raise
    except NodeError as error:
        raise Err(types.Error(error.kind, str(error))) from error
    except Exception as error:
        raise Err(types.Error(types.ErrorKind.FAILED, f"{type(error).__name__}: {error}")) from error


def _outcome(answer):
    if isinstance(answer, Blocked):
        return wit.Outcome_Blocked(answer.message)
    if isinstance(answer, Expansion):
        return wit.Outcome_Expansion(_to_wit({"graph": answer.graph, "slots": list(answer.outputs)}))
    ui = None
    if isinstance(answer, Ui):
        ui, answer = json.dumps(answer.ui), tuple(answer.outputs)
    if not isinstance(answer, tuple):
        answer = () if answer is None else (answer,)
    return wit.Outcome_Outputs(wit.Outputs(_to_wit(list(answer)), ui))


def _to_wit(value):
    handles = []

    def plain(value):
        match value:
            case Tensor():
                handles.append(values.Handle_Tensor(value))
                return {"$": len(handles) - 1}
            case values.Object():
                handles.append(values.Handle_Object(value))
                return {"$": len(handles) - 1}
            case Blocked():
                return {"$blocked": value.message}
            case Link():
                return {"$link": [value.node, value.slot]}
            case dict():
                return {("$" + key if key.startswith("$") else key): plain(one) for key, one in value.items()}
            case list() | tuple():
                return [plain(one) for one in value]
            case _:
                return value

    return values.Value(json.dumps(plain(value)), handles)


def _from_wit(value):
    def rich(plain):
        if isinstance(plain, list):
            return [rich(one) for one in plain]
        if not isinstance(plain, dict):
            return plain
        if len(plain) == 1 and "$" in plain:
            return value.handles[plain["$"]].value
        if len(plain) == 1 and "$blocked" in plain:
            return Blocked(plain["$blocked"])
        return {(key[1:] if key.startswith("$") else key): rich(one) for key, one in plain.items()}

    return rich(json.loads(value.json))
