"""Which variables a graph only ever adds to, with amounts that do not depend on what they hold.

Such states can be merged: two clients that start from the same state have added what one client with the data of both would have added.
`v.assign_add(x)` adds. So does `v.assign(v + x)`. `v.assign(max(v, x))` does not. The graph is read, not run: data on which a maximum
happens to look like a sum cannot mislead it, and what it does not understand it takes as not additive.
"""

_ADDS = {
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "ResourceScatterAdd",
    "ResourceScatterSub",
    "ResourceScatterNdAdd",
    "ResourceScatterNdSub",
}
_LOOKS = {"ReadVariableOp", "VariableShape", "VarIsInitializedOp"}
_FORWARDS = {"Identity"}
# Of a tensor's form, not of its values.
_FORMS = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}


def written(function, variables):
    """How a graph writes to variables.

    Args:
      function: a concrete function.
      variables: a list of variables.

    Returns:
      (changed, additive): sets of positions in `variables`: those that the graph writes to, and those of
      them that it only adds to.
    """
    definition = function.graph.as_graph_def()
    functions = {each.signature.name: each for each in definition.library.function}
    captured = function.inputs[len(function.inputs) - len(function.captured_inputs) :]
    places = {id(variable.handle): i for i, variable in enumerate(variables)}
    handles = {
        tensor.op.name: places[id(handle)]
        for tensor, handle in zip(captured, function.captured_inputs)
        if id(handle) in places
    }
    changed = _Reader(functions, frozenset()).read(definition.node, handles)
    reader = _Reader(functions, changed)
    reader.read(definition.node, handles)
    return set(changed), set(changed) - reader.overwritten


class _Reader:
    """Reads the nodes of a graph and of the functions it calls.

    Args:
      functions: name -> FunctionDef.
      changed: positions of the variables whose values are followed.

    Attributes:
      overwritten: positions of the variables that the nodes read so far do anything to but add.
    """

    def __init__(self, functions, changed):
        self._functions = functions
        self._changed = changed
        self._writes = set()
        self.overwritten = set()

    def read(self, nodes, handles, dependent=()):
        """Reads nodes.

        Args:
          nodes: NodeDefs.
          handles: name of a node, or of a function's argument -> position of the variable that it is the handle of.
          dependent: names of arguments that depend on what the variables hold.

        Returns:
          The positions of the variables written to so far.
        """
        nodes, handles, dependent = (
            {node.name: node for node in nodes},
            dict(handles),
            set(dependent),
        )
        before = None
        while before != (
            len(handles),
            len(dependent),
            len(self._writes),
            len(self.overwritten),
        ):  # nodes of functions have no order
            before = len(handles), len(dependent), len(self._writes), len(self.overwritten)
            for node in nodes.values():
                self._read_node(node, nodes, handles, dependent)
        self._dependent = dependent
        return frozenset(self._writes)

    def _read_node(self, node, nodes, handles, dependent):
        inputs = _inputs(node)
        variables = [handles[name] for name in inputs if name in handles]
        depends = any(name in dependent for name in inputs)
        if bodies := _bodies(node):
            self._call(node, bodies, inputs, handles, dependent)
        elif node.op in _FORWARDS and variables:
            handles[node.name] = variables[0]
        elif not variables:
            if depends and node.op not in _FORMS:
                dependent.add(node.name)
        elif node.op in _ADDS:
            self._writes.update(variables)
            if depends:
                self.overwritten.update(variables)
        elif node.op in _LOOKS:
            if node.op == "ReadVariableOp" and variables[0] in self._changed:
                dependent.add(node.name)
        else:
            self._writes.update(variables)
            if node.op != "AssignVariableOp" or not self._is_sum(
                inputs[1], variables[0], nodes, handles, dependent
            ):
                self.overwritten.update(variables)

    def _is_sum(self, name, variable, nodes, handles, dependent):
        """Whether a value is that of the variable plus something that does not depend on it."""
        node = nodes.get(name)
        if node is None:
            return False
        inputs = _inputs(node)
        if node.op == "ReadVariableOp":
            return handles.get(inputs[0]) == variable
        if node.op in _FORWARDS:
            return self._is_sum(inputs[0], variable, nodes, handles, dependent)
        if node.op in ("AddV2", "Add", "Sub"):
            sides = (inputs,) if node.op == "Sub" else (inputs, inputs[::-1])
            return any(
                b not in dependent and self._is_sum(a, variable, nodes, handles, dependent)
                for a, b in sides
            )
        return False

    def _call(self, node, bodies, inputs, handles, dependent):
        skipped = 1 if node.op in ("If", "StatelessIf", "Case", "StatelessCase") else 0
        for name in bodies:
            body = self._functions[name]
            arguments = [argument.name for argument in body.signature.input_arg]
            pairs = [*zip(arguments, inputs[skipped:])]
            inner = _Reader(self._functions, self._changed)
            inner.read(
                body.node_def,
                {argument: handles[given] for argument, given in pairs if given in handles},
                [argument for argument, given in pairs if given in dependent],
            )
            self._writes |= inner._writes
            self.overwritten |= inner.overwritten
            reads = len(inner._dependent) > 0
            if inner._writes and (
                any(given in dependent for given in inputs[:skipped])
                or (reads and "While" in node.op)
            ):
                self.overwritten |= (
                    inner._writes
                )  # what decides whether, or how often, it is written depends on it
            if reads:
                dependent.add(node.name)


def _inputs(node):
    """Names of the nodes or arguments that a node takes values from."""
    return [name.partition(":")[0] for name in node.input if not name.startswith("^")]


def _bodies(node):
    """Names of the functions that a node calls."""
    named = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return named + [each.name for value in node.attr.values() for each in value.list.func]
